"""TAPS: a gate for each layer and task, learned on the target's dev loss through a straight-through gradient."""

from __future__ import annotations

from typing import Any

from avil_fast.config import TrainConfig
from avil_fast.config.base import NonNegative, Section
from avil_fast.engine.parameters import Granularity
from avil_fast.engine.results import Table
from avil_fast.methods.alpha_descent import descend, dev_gradients, mean_over_groups
from avil_fast.methods.base import RoundRecord
from avil_fast.methods.merging import Collecting
from avil_fast.methods.scalar_rules import cosines


class Taps(Collecting):
    """Wallingford and others, "Task Adaptive Parameter Sharing for Multi-Task Learning" (CVPR 2022), as gates on
    the deltas of every task: θ_l ← θ_l + Σ_i I(s_li ≥ τ) δ_li, for every layer l.

    The scores s begin at 1, and are kept from round to round. In each they descend by `alpha.*` on L + λ Σ |s|, L
    the target's dev loss at the gated deltas. The gradient takes I for the identity, ∂L/∂s_li = ⟨∇_l L, δ_li⟩, so
    that a gate that is closed may open again. What the paper trains together comes in turns here, deltas, then s.
    With all gates open this is θ + Σ δ_i: a gate lets a delta through as it is, and its size is not learned.

    Attributes:
        scores: s, [groups, n].
    """

    class Options(Section):
        """When a gate is open, and what it costs."""

        threshold: float = 0.5
        """τ: a gate is open where its score is this or above."""
        penalty: NonNegative = 0.01
        """λ, the weight of Σ |s| beside the dev loss."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.scores: Table = [[1.0] * len(self.engine.tasks) for _ in self.engine.groups]

    @classmethod
    def granularity(cls, config: TrainConfig) -> Granularity:
        return "layer"

    def state(self) -> dict[str, Any]:
        return super().state() | {"scores": self.scores}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.scores = state["scores"]

    def round(self, round_: int) -> RoundRecord:
        done = self.so_far
        self.collect(round_)
        path = descend(self.scores, self.config.alpha, lambda scores, step: self._gradient(scores, step, round_))
        self.scores = path[-1]
        gates = self.gates(self.scores)
        self.engine.merge(gates)
        opened = [mean_over_groups(self.gates(scores), self.engine.groups) for scores in path]
        self.weight = opened[-1]
        return RoundRecord(
            alpha=opened[-1],
            weight=self.weight,
            delta_norm=done.norm,
            train_loss=done.loss,
            alpha_path=opened,
            cosine=cosines(self.engine.gram()),
            rejected_alpha_steps=done.gradient.count([]),
            alpha_layers=gates,
        )

    def gates(self, scores: Table) -> Table:
        """1 where a gate is open, 0 where it is closed."""
        return [[float(s >= self.options.threshold) for s in own] for own in scores]

    def _gradient(self, scores: Table, step: int, round_: int) -> Table:
        """∂(L + λ Σ |s|)/∂s, I taken for the identity; empty if ∂L/∂s is not finite."""
        gradients, pull = dev_gradients(self, self.gates(scores), step, round_), self.options.penalty
        if not gradients:
            return []
        return [
            [g + pull * ((s > 0) - (s < 0)) for g, s in zip(*own, strict=True)]
            for own in zip(gradients, scores, strict=True)
        ]
