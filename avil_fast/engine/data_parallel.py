"""The engine for many ranks that hold the whole model each: ZeRO stage 0, on torch alone.

Gradients are averaged over the ranks. Base and deltas are divided among them all the same: the model needs
none of these between two steps, so a rank keeps its slice, and slices are gathered when θ changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor

from avil_fast.engine.group import Shard
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.partition import Partition


@dataclass(frozen=True)
class Slice:
    """This rank's part of a partition that every rank holds whole."""

    partition: Partition
    rank: int
    ranks: int

    @property
    def master(self) -> Tensor:
        return self._of(self.partition.master)

    @property
    def low(self) -> Sequence[Tensor]:
        return ()

    @property
    def grad(self) -> Tensor:
        return self._of(self.partition.grad)

    def _of(self, whole: Tensor) -> Tensor:
        return whole.chunk(self.ranks)[self.rank]


class DataParallelEngine(LocalEngine):
    """`LocalEngine` on each of several `ranks`, with its arguments."""

    name = "data parallel"

    def _shards(self, partitions: Sequence[Partition]) -> Sequence[Shard]:
        return [Slice(partition, self.ranks.rank, self.ranks.size) for partition in partitions]

    def _backward(self, loss: Tensor, last: bool) -> None:
        super()._backward(loss, last)
        if last:
            for partition in self._used():
                self.ranks.mean_(partition.grad)

    def _part(self, value: Any) -> Any:
        divided = isinstance(value, Tensor) and value.dim() > 0
        return value.chunk(self.ranks.size)[self.ranks.rank] if divided else value

    def _agree_on_moments(self) -> None:
        for task in range(len(self.tasks)):
            for state in self._optimizer.moments(task):
                for value in state.values():
                    if isinstance(value, Tensor) and value.dim() > 0:
                        self.ranks.gather_(value)

    def _publish_all(self) -> None:
        for partition in self._parameters.all:
            self.ranks.gather_(partition.master)
        super()._publish_all()

    def _publish(self) -> None:
        for partition in chain.from_iterable(self._combined):
            self.ranks.gather_(partition.master)
            partition.write_low_precision()
