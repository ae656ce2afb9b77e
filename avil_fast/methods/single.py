"""Single-task training: what the target reaches without its auxiliaries."""

from __future__ import annotations

from collections.abc import Sequence

from avil_fast.methods.base import Method, RoundRecord
from avil_fast.tasks.joined import with_dev
from avil_fast.tasks.task import Task


class Single(Method):
    """The target alone at the matched total budget: in a round it takes the steps of all tasks together."""

    keeps_deltas = False

    def training(self, turn: int) -> str:
        return self.engine.tasks[self.engine.target].name

    def round(self, round_: int) -> RoundRecord:
        return target_alone(self, round_, self.steps())

    def steps(self) -> int:
        """Of a round."""
        return sum(self.data.steps(task) for task in range(len(self.engine.tasks)))


class SingleOwn(Single):
    """The target alone at its own budget: the steps that it takes among its auxiliaries."""

    def steps(self) -> int:
        return self.data.steps(self.engine.target)


class SingleAll(Single):
    """The target alone on train and dev together, at the matched total budget: the honest control.

    What a method learns on the dev set it could have trained on instead. Nothing is held out then, so the last
    round and the last epoch of the fine-tune are the result.
    """

    begins_joined = True

    def holds_out(self, round_: int) -> bool:
        return False

    @classmethod
    def trained(cls, tasks: Sequence[Task], target: int) -> list[Task]:
        return [*tasks[:target], with_dev(tasks[target]), *tasks[target + 1 :]]


def target_alone(method: Method, round_: int, steps: int) -> RoundRecord:
    """A round of the target alone."""
    target, n = method.engine.target, len(method.engine.tasks)
    method.begin()
    run = method.take_turn(target, round_, losses=[target] * steps, restore=False)
    only = [1.0 if task == target else 0.0 for task in range(n)]
    method.weight = only
    norms = [run.delta_norm if task == target else 0.0 for task in range(n)]
    losses = [method.so_far.loss[0] if task == target else None for task in range(n)]
    return RoundRecord(only, only, norms, losses)
