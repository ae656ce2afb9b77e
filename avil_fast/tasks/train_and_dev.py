"""A task's train and dev sets as one, for training on both."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

from torch.utils.data import ConcatDataset

from avil_fast.errors import AvilError
from avil_fast.tasks.data_kinds import is_dataset, length_of
from avil_fast.tasks.loading import start_workers
from avil_fast.tasks.task import Batch, Data, Task


def can_spare_dev(task: Task) -> bool:
    """Whether its dev set can become training data: there is a test set to judge by, and both are Datasets."""
    return task.test is not None and task.dev is not None and is_dataset(task.train) and is_dataset(task.dev)


def with_dev(task: Task) -> Task:
    """The task with its dev set among its training data; `dev` stays what it is.

    Raises:
        AvilError: see `joined`.
    """
    assert task.dev is not None
    return replace(task, train=joined(task.name, task.train, task.dev))


def joined(name: str, train: Data, dev: Data) -> Data:
    """Both sets as one.

    Raises:
        AvilError: one is a Dataset and the other an iterable of batches, or one has no length.
    """
    if is_dataset(train) and is_dataset(dev):
        return _Joined(train, dev)
    instead = "or set alpha.rounds: null and finetune.data: train"
    if is_dataset(train) or is_dataset(dev):
        raise AvilError(
            f"target {name!r}: its train and dev sets cannot be joined, as one is a Dataset and the other has "
            f"batches; pass two Datasets, {instead}"
        )
    for split, data in (("train", train), ("dev", dev)):
        if length_of(data) is None:
            raise AvilError(
                f"target {name!r}: its train and dev sets cannot be joined, as its {split} iterable has no len(), "
                f"so there is no telling where it ends; give it one, {instead}"
            )
    if isinstance(train, list | tuple) and isinstance(dev, list | tuple):
        return [*train, *dev]
    return BatchesOfBoth(cast(Any, train), cast(Any, dev))


class BatchesOfBoth:
    """The batches of one iterable and then those of another, walked anew by every pass."""

    def __init__(self, *parts: Iterable[Batch]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(len(cast(Any, part)) for part in self.parts)

    def __iter__(self) -> Iterator[Batch]:
        return itertools.chain.from_iterable(map(start_workers, self.parts))


class _Joined(ConcatDataset[Any]):
    """A ConcatDataset that passes on what a training set may have besides its items; see `Task.train`.

    Where only one part has weights, an example of the other weighs 1.
    """

    def __init__(self, *parts: Data) -> None:
        super().__init__(cast(Any, parts))
        weights = [getattr(part, "weights", None) for part in parts]
        if any(own is not None for own in weights):
            self.weights: list[int] = []
            for own, part in zip(weights, parts, strict=True):
                self.weights += [1] * len(cast(Any, part)) if own is None else own
        if all(hasattr(part, "draw") for part in parts):
            self.draw = self._draw

    def _draw(self, index: int, seed: int) -> Any:
        first = len(cast(Any, self.datasets[0]))
        part, own = (0, index) if index < first else (1, index - first)
        return cast(Any, self.datasets[part]).draw(own, seed)
