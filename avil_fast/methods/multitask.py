"""Multitask training: the tasks' batches in a random order, one model, one set of moments."""

from __future__ import annotations

from typing import Literal

from avil_fast.config.base import Fraction, Section
from avil_fast.methods.base import Method, RoundRecord
from avil_fast.methods.scalar_rules import share_out
from avil_fast.methods.single import target_alone


class Multitask(Method):
    """Joint training (Caruana, Machine Learning 28, 1997) at the matched budget: in a round as many steps as all
    tasks have together, each on a batch of one task, shuffled."""

    class Options(Section):
        """How a round's steps are shared among tasks."""

        sampling: Literal["uniform", "proportional"] = "uniform"
        """uniform: the steps that each task has in a round, equal ones by default. proportional: all of them,
        shared out by the size of the tasks' data."""

    keeps_deltas = False

    def round(self, round_: int) -> RoundRecord:
        steps = self.steps()
        self.begin()
        done = self.train_jointly(round_, steps)
        mean = sum(steps) / len(steps)
        self.weight = [count / mean for count in steps]
        return RoundRecord(
            alpha=[1.0] * len(steps), weight=self.weight, delta_norm=done.delta_norm, train_loss=done.train_loss
        )

    def steps(self) -> list[int]:
        """Optimizer steps of each task in a round."""
        tasks = range(len(self.engine.tasks))
        if self.options.sampling == "uniform":
            return [self.data.steps(task) for task in tasks]
        return share_out(self.data.steps_per_round, [self.data.steps_per_pass(task) for task in tasks])


class MultitaskFinetune(Multitask):
    """Joint training, then the target alone for the last rounds, at the same budget."""

    class Options(Multitask.Options):
        """How a round's steps are shared among tasks, and in which rounds."""

        target_rounds: Fraction = 1 / 3
        """The fraction of the rounds, the last ones, that train the target alone."""

    def round(self, round_: int) -> RoundRecord:
        if round_ <= round(self.config.rounds * (1 - self.options.target_rounds)):
            return super().round(round_)
        return target_alone(self, round_, sum(self.steps()))
