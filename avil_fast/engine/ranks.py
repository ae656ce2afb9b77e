"""The ranks of a run: processes that train together, each on its share of every batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from avil_fast.errors import AvilError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """This process's place among the others; every method is called by all ranks alike."""

    rank: int = 0
    size: int = 1
    timeout: timedelta | None = None
    """How long ranks wait for one another; None leaves it to torch."""

    @property
    def first(self) -> bool:
        """Whether this rank writes files and speaks for all."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up `tensor` over the ranks, in place; the same bits on all."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean_(self, tensor: Tensor) -> Tensor:
        """The mean of a floating tensor over the ranks, in place."""
        return self.sum_(tensor).div_(self.size) if self.size > 1 else tensor

    def from_first_(self, tensor: Tensor) -> None:
        """Fill `tensor` with the first rank's; one of no elements is ZeRO's, which sees to it."""
        if self.size > 1 and tensor.numel():
            whole = tensor.contiguous()
            dist.broadcast(whole.view(-1).view(torch.uint8), src=0)  # gloo knows few dtypes
            if whole is not tensor:
                tensor.copy_(whole)

    def gather_(self, whole: Tensor) -> None:
        """Fill `whole`, one of `size` equal parts of which every rank holds, with the others' parts."""
        if self.size > 1:
            dist.all_gather_into_tensor(whole, whole.chunk(self.size)[self.rank].clone())

    def on_first(self, action: Callable[[], Value]) -> Value:
        """What `action` returns on the first rank, or the `AvilError` that it raises there, on all ranks."""
        if self.size == 1:
            return action()
        outcome: list[Any] = [None, None]
        if self.first:
            try:
                outcome[0] = action()
            except AvilError as error:
                outcome[1] = str(error)
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise AvilError(outcome[1])
        value: Value = outcome[0]
        return value

    def on_all(self, action: Callable[[], Value], problem: type[AvilError]) -> Value:
        """What `action` returns on this rank; where it raises a `problem` on one rank, all ranks learn of it.

        Raises:
            AvilError: a `problem`, the same on all ranks.
        """
        value, told = None, ""
        try:
            value = action()
        except problem as error:
            told = str(error)
        if first := next(filter(None, self.gather(told)), None):
            raise problem(first)
        return value  # type: ignore[return-value]  # there was no problem

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, on all ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def max(self, *numbers: int) -> list[int]:
        """The largest over the ranks of each small number; waits for no GPU."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=_cpu_group(self.timeout))
        return tensor.tolist()

    def require_same(self, what: str, lines: Sequence[str]) -> None:
        """Refuse a run whose ranks disagree: they would wait for one another for ever.

        Raises:
            AvilError: on all ranks; names the first rank that differs from the first, and the line.
        """
        if self.size == 1:
            return
        all_lines = self.gather(list(lines))
        for rank, other in enumerate(all_lines):
            for one, another in zip_longest(all_lines[0], other):
                if one != another:
                    raise AvilError(
                        f"{what} differs: {one!r} on rank 0, but {another!r} on rank {rank}; start all ranks "
                        f"with the same files and settings"
                    )


ALONE = Ranks()


@functools.cache
def _cpu_group(timeout: timedelta | None) -> Any:
    """The ranks' group for tensors in CPU memory."""
    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=timeout)
