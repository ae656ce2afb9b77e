"""Discriminative importance weighting: a task counts by how well its own training does on the target's dev set."""

from __future__ import annotations

import math

from avil_fast.config.base import Positive, Section
from avil_fast.methods.merging import Merging
from avil_fast.methods.scalar_rules import reweighted


class Diw(Merging):
    """Sivasankaran, Vincent and Illina, "Discriminative importance weighting of augmented training data for
    acoustic model training" (ICASSP 2017), on deltas: w_i ← w_i exp(-η L(θ + δ_i)), rescaled to mean 1, with L the
    target's dev loss, and θ ← θ + Σ w_i δ_i. Where all score alike that is Σ δ_i: with one step of SGD the joint
    step of multitask training. A delta after which the dev loss is no number gets weight 0, and its task keeps it.
    """

    class Options(Section):
        """How fast weights follow scores."""

        lr: Positive = 1.0
        """η, by which scores change the logarithms of weights."""

    def coefficients(self, round_: int) -> list[float]:
        target, n = self.engine.target, len(self.engine.tasks)
        scores = []
        for task in range(n):
            self.engine.apply([float(other == task) for other in range(n)])
            loss = self.engine.evaluate(target, self.data.dev(target)).loss
            scores.append(loss if math.isfinite(loss) else math.inf)
        self.weight = reweighted(self.weight, [-self.options.lr * loss for loss in scores])
        return list(self.weight)
