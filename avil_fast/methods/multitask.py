"""Multitask training: the tasks' batches in a random order, one model, one set of moments."""

from __future__ import annotations

from typing import Literal

from avil_fast.methods.base import Method, RoundRecord
from avil_fast.methods.single import target_alone
from avil_fast.section import Fraction, Section


class Multitask(Method):
    """Joint training (Caruana, Machine Learning 28, 1997) at the matched budget: in a round as many steps as all
    tasks have together, each on a batch of one task, shuffled."""

    class Options(Section):
        """Whose batches are how many."""

        sampling: Literal["uniform", "proportional"] = "uniform"
        """uniform: the steps that each task has in a round, equal ones by default. proportional: all of them,
        shared out by the size of the tasks' data."""

    keeps_deltas = False

    def training(self, turn: int) -> str:
        return self.engine.tasks[self.engine.target].name

    def round(self, round_: int) -> RoundRecord:
        target, steps = self.engine.target, self.steps()
        self.begin()
        order = self.shuffled(steps, round_)
        run = self.take_turn(target, round_, losses=order, restore=False)
        mean = sum(steps) / len(steps)
        self.weight = [count / mean for count in steps]
        losses: list[float | None] = []
        for task, count in enumerate(steps):
            own = [loss for of, loss in zip(order, run.losses, strict=True) if of == task]
            losses.append(sum(own) / count if count else None)
        norms = [run.delta_norm if task == target else 0.0 for task in range(len(steps))]
        return RoundRecord([1.0] * len(steps), self.weight, norms, losses)

    def steps(self) -> list[int]:
        """Of each task in a round."""
        tasks = range(len(self.engine.tasks))
        if self.options.sampling == "uniform":
            return [self.data.steps(task) for task in tasks]
        total, passes = sum(map(self.data.steps, tasks)), [self.data.steps_per_pass(task) for task in tasks]
        ends = [round(total * sum(passes[: task + 1]) / sum(passes)) for task in tasks]
        return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


class MultitaskFinetune(Multitask):
    """Joint training, then the target alone for the last rounds, at the same budget."""

    class Options(Multitask.Options):
        """Whose batches are how many, and when."""

        target_rounds: Fraction = 1 / 3
        """The fraction of the rounds, the last ones, that train the target alone."""

    def round(self, round_: int) -> RoundRecord:
        if round_ <= round(self.config.rounds * (1 - self.options.target_rounds)):
            return super().round(round_)
        return target_alone(self, round_, sum(self.steps()))
