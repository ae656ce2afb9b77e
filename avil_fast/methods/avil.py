"""αVIL: learn one coefficient per task on the target's dev loss (arXiv 2405.07769, Algorithm 1).

A round, from shared parameters θ:

1. collect: train every task i from θ on its weighted loss; δ_i = θ_i - θ
2. α phase: minimise L_target(dev; θ + Σ α_i δ_i) over α by gradient descent
3. merge: θ ← θ + Σ α_i δ_i
4. weights: w_i ← w_i + (α_i - 1), or one of the other rules

With `alpha.granularity: layer`, no part of the paper, every layer has α of its own. Where one number stands for a
task, that is the mean over layers, each counted by its elements.

Once α is settled (`alpha.rounds`, no part of the paper) it says what to train on: θ goes back to where the run
began, and the tasks train together from there, as DoReMi (Xie et al., NeurIPS 2023) trains once more with the
weights of domains that it has learned. With `alpha.settled: merge` rounds go on with the α that stays.
"""

from __future__ import annotations

import math
from typing import Any

from avil_fast.config import AlphaConfig, TrainConfig, WeightsConfig
from avil_fast.engine.base import Engine, Table, over_groups
from avil_fast.engine.parameters import Granularity
from avil_fast.methods.alpha_descent import descend, dev_gradients, look, mean
from avil_fast.methods.base import Method, RoundRecord, share_out
from avil_fast.methods.data import TaskData
from avil_fast.methods.turn import Watch
from avil_fast.tasks.task import Task
from avil_fast.tasks.train_and_dev import can_spare_dev

TINY = 1e-8
"""Instead of 0, where one thing at least has to be above it."""


class Avil(Method):
    """The method of the package; `preset: paper` is the published algorithm to the letter.

    Attributes:
        alphas: of the rounds in which α was learned.
    """

    def __init__(self, engine: Engine, data: TaskData, config: TrainConfig, watch: Watch) -> None:
        super().__init__(engine, data, config, watch)
        self.alphas: list[Table] = []
        self._on_dev = False
        """The target has trained on its dev set."""
        self._restarted = False
        """θ went back to where the run began."""

    @classmethod
    def held_out_rounds(cls, config: TrainConfig, target: Task) -> int:
        return config.alpha.learned_in(config.rounds, can_spare_dev(target))

    @classmethod
    def granularity(cls, config: TrainConfig) -> Granularity:
        return config.alpha.granularity

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "alphas": list(self.alphas),
            "on_dev": self._on_dev,
            "restarted": self._restarted,
        }

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.alphas = list(state["alphas"])
        self._on_dev, self._restarted = state["on_dev"], state["restarted"]
        if self._on_dev:  # also where the run goes on for longer than it was to
            self.held_out = len(self.alphas)

    def training(self, turn: int) -> str:
        together = self._on_dev and self.config.alpha.settled == "restart"
        return super().training(self.engine.target if together else turn)

    def round(self, round_: int) -> RoundRecord:
        done = self.so_far
        restarts = self.config.alpha.settled == "restart" and not self._alone
        if restarts and round_ == 1 and done.nothing and self.held_out < self.config.rounds:
            self.engine.keep_start()
        if restarts and not self._on_dev and not self.holds_out(round_):
            self._restarted = self.engine.restart()  # not where the run was to be too short for it, and grew
        self._on_dev = self._on_dev or not self.holds_out(round_)
        self.begin()
        if restarts and self._on_dev:
            return self._settled_round(round_)
        for task in range(len(done.norm), len(self.engine.tasks)):
            self._collect(task, round_)
        benefit: list[float] = []
        if self._alone:
            path, cosine = [[[1.0] for _ in self.engine.groups]], [[1.0]]
        elif self.holds_out(round_):
            path, benefit = self._solve_alpha(round_)
            self.alphas.append(path[-1])
        else:
            path = [self._settled]
        if not self._alone:
            self.engine.merge(path[-1])
            cosine = cosines(self.engine.gram())
        means = [mean(table, self.engine.groups) for table in path]
        if self.holds_out(round_):
            init = start(self.config.alpha, len(means[-1]))
            self.weight = update_weights(self.weight, means[-1], init, self.config.weights, self.engine.target)
        return RoundRecord(
            means[-1],
            self.weight,
            done.norm,
            done.loss,
            means,
            cosine,
            benefit,
            rejected_alpha_steps=done.gradient.count([]),
            alpha_layers=path[-1] if self.config.alpha.granularity == "layer" else [],
        )

    def _settled_round(self, round_: int) -> RoundRecord:
        """A round with a settled α: as many steps as all tasks have together, shared out by α and w."""
        alpha = mean(self._settled, self.engine.groups)
        by_alpha = shares(alpha, self.engine.target, start(self.config.alpha, len(alpha)))
        weighted = [share * max(weight, TINY) for share, weight in zip(by_alpha, self.weight, strict=True)]
        steps = share_out(self.data.steps_per_round, weighted)
        done = self.train_jointly(round_, steps, with_dev=True)
        return RoundRecord(
            alpha,
            self.weight,
            done.delta_norm,
            done.train_loss,
            [alpha],
            share=by_alpha,
            restarted=self._restarted,
        )

    @property
    def _settled(self) -> Table:
        """The α that stays, of every group."""
        by_group = zip(*self.alphas, strict=True)
        return [settled(list(own), self.engine.target, self.config.alpha) for own in by_group]

    @property
    def _alone(self) -> bool:
        """One task and α fixed at 1: θ + 1·δ is θ_i itself, so leave it there, free of rounding."""
        alpha = self.config.alpha
        return len(self.engine.tasks) == 1 and alpha.steps == 0

    def _collect(self, task: int, round_: int) -> None:
        """Train a task, and keep its delta."""
        weight, apply = self.weight[task], self.config.weights.apply
        self.take_turn(
            task,
            round_,
            factor=weight if apply == "sampling" else 1.0,
            loss_weight=weight if apply == "loss" else 1.0,
            lr_scale=weight if apply == "lr" else 1.0,
            with_dev=task == self.engine.target and not self.holds_out(round_),
            restore=not self._alone,
        )
        self.watch.point()

    def _solve_alpha(self, round_: int) -> tuple[list[Table], list[float]]:
        """Gradient descent on α: the way to the final α, and what each task brought.

        The gradients decide all else, so those that are there already are followed again. An α at which loss or
        gradient is not finite is rejected: the way ends at the one before it.
        """
        config, n = self.config.alpha, len(self.engine.tasks)
        first = [[start(config, n)] * n for _ in self.engine.groups]
        path = descend(first, config, lambda alpha, step: dev_gradients(self, alpha, step, round_))
        known = [gradient for gradient in self.so_far.gradient if gradient]
        return path, self._benefit(path[len(known) - 1], known[-1]) if known else []

    def _benefit(self, alpha: Table, gradient: Table) -> list[float]:
        """What each task brought on the way from θ to the last α whose gradient is known."""
        done = self.so_far
        if done.at_third is None:
            done.at_third, _ = look(self, [[a / 3 for a in own] for own in alpha])
            self.watch.point()
        if not done.at_third:
            return []
        return over_groups([benefits(*own) for own in zip(alpha, done.at_third, gradient, strict=True)])


def settled(alphas: list[list[float]], target: int, config: AlphaConfig) -> list[float]:
    """The mean α over the later half of the rounds in which it was learned, the target's at least half its start.

    A round may teach the target nothing new, and then its α is small. Kept for all rounds to come, it would have
    them teach it nothing either.
    """
    later = alphas[len(alphas) // 2 :]
    mean = [sum(own) / len(later) for own in zip(*later, strict=True)]
    least = start(config, len(mean)) / 2
    mean[target] = max(mean[target], least if config.bounds is None else min(least, config.bounds[1]))
    return mean


def shares(alpha: list[float], target: int, init: float) -> list[float]:
    """What each task has of the steps, as a part of what the target has, which is 1.

    1 where α is at least half of where it began, and below that in proportion: by how much the α of two useful
    tasks differ is noise on a small dev set.
    """
    found = [min(max(2 * a / init, 0.0), 1.0) for a in alpha]
    found[target] = 1.0
    return found


def benefits(alpha: list[float], at_third: list[float], at_alpha: list[float]) -> list[float]:
    """How much of the fall of the target's dev loss from θ to θ + Σ α_i δ_i is due to each task.

    The loss falls by -∫ Σ α_i ∂L/∂α_i(tα) dt for t from 0 to 1, and task i's part is that of its own term (Aumann
    and Shapley's share). Here by Radau's rule of two points, -α_i (3 g_i(α/3) + g_i(α)) / 4, which is exact where
    the loss is cubic along the line. Negative: the task drove the loss up.

    Args:
        alpha: [n], of each task.
        at_third: [n], ∂L/∂α at α / 3.
        at_alpha: [n], the same at α.
    """
    return [-a * (3 * g + h) / 4 for a, g, h in zip(alpha, at_third, at_alpha, strict=True)]


def start(config: AlphaConfig, n: int) -> float:
    """Where every α begins: 1, or 1/n for n tasks."""
    return 1.0 if config.init == "one" else 1.0 / n


def update_weights(
    weight: list[float], alpha: list[float], init: float, config: WeightsConfig, target: int
) -> list[float]:
    """The weights for the next round.

    additive, the paper's with η = 1: w_i + η (α_i - 1). multiplicative: w_i · (α_i / α_init)^η, with α
    below 0 taken as 0. Then the mean is brought to 1 (`normalize`), then bounds and the target's floor
    are applied, so that no weight is stuck at 0, where δ and with it the α gradient would vanish.
    """
    match config.rule:
        case "off":
            return weight
        case "additive":
            updated = [w + config.lr * (a - 1) for w, a in zip(weight, alpha, strict=True)]
        case "multiplicative":
            updated = [w * max(a / init, 0.0) ** config.lr for w, a in zip(weight, alpha, strict=True)]
    mean = sum(updated) / len(updated)
    if config.normalize and mean > 0:
        updated = [w / mean for w in updated]
    if config.bounds is not None:
        low, high = config.bounds
        updated = [min(max(w, low), high) for w in updated]
    if config.target_min is not None:
        updated[target] = max(updated[target], config.target_min)
    return updated


def cosines(gram: list[list[float]]) -> list[list[float]]:
    """cos(δ_i, δ_j) from ⟨δ_i, δ_j⟩; 0 where a delta is zero."""

    def cosine(i: int, j: int) -> float:
        size = math.sqrt(gram[i][i] * gram[j][j])
        return gram[i][j] / size if size > 0 else 0.0

    return [[cosine(i, j) for j in range(len(gram))] for i in range(len(gram))]
