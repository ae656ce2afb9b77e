"""Single-task training: what the target reaches without its auxiliaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from torch.utils.data import ConcatDataset

from avil_fast.errors import AvilError
from avil_fast.methods.base import Method, RoundRecord
from avil_fast.tasks.batches import is_dataset
from avil_fast.tasks.task import Data, Task


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

    early_stops = False

    @classmethod
    def trained(cls, tasks: Sequence[Task], target: int) -> list[Task]:
        task = tasks[target]
        assert task.dev is not None
        both = replace(task, train=joined(task.name, task.train, task.dev))
        return [*tasks[:target], both, *tasks[target + 1 :]]


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


def joined(name: str, train: Data, dev: Data) -> Data:
    """Both sets as one.

    Raises:
        AvilError: one is a Dataset and the other an iterable of batches.
    """
    if is_dataset(train) and is_dataset(dev):
        return _Joined(train, dev)
    if is_dataset(train) or is_dataset(dev):
        raise AvilError(
            f"target {name!r}: its train and dev sets cannot be joined for single_all, as one is a Dataset and "
            f"the other has batches; pass two Datasets"
        )
    return [*cast(Any, train), *cast(Any, dev)]


class _Joined(ConcatDataset[Any]):
    """A ConcatDataset that passes on what a training set may have besides its items; see `Task.train`."""

    def __init__(self, *parts: Data) -> None:
        super().__init__(cast(Any, parts))
        weights = [getattr(part, "weights", None) for part in parts]
        if all(own is not None for own in weights):
            self.weights = [weight for own in weights for weight in cast(Any, own)]
        if all(hasattr(part, "draw") for part in parts):
            self.draw = self._draw

    def _draw(self, index: int, seed: int) -> Any:
        first = len(cast(Any, self.datasets[0]))
        part, own = (0, index) if index < first else (1, index - first)
        return cast(Any, self.datasets[part]).draw(own, seed)
