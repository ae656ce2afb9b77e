"""Buffers over a round, and over a step that is rejected.

They are never combined with α: a negative coefficient makes a negative variance, and NaN in the first
round. Each task starts from the round's buffers; afterwards floating buffers are the mean over tasks,
others (counters, fp8) the target's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from avil_fast.engine.buffers import Buffers


class RoundBuffers:
    """Keeps the round's base buffers and adds up what the tasks made of them.

    Args:
        buffers: of the model.
        mean_: brings a tensor to its mean over the ranks, which see other examples.
    """

    def __init__(self, buffers: Buffers, mean_: Callable[[Tensor], Tensor]) -> None:
        self._buffers = buffers
        self._mean_ = mean_
        self._base: list[Tensor] = []
        self._sums: list[Tensor] = []
        self.tasks = 0
        """Number of tasks that have ended in this round."""

    def begin_round(self) -> None:
        buffers = self._buffers.present()
        self._base = [buffer.clone() for buffer in buffers]
        self._sums = [torch.zeros_like(buffer, dtype=_sum_dtype(buffer)) for buffer in buffers]
        self.tasks = 0

    def end_task(self, is_target: bool) -> None:
        """Record the task's buffers and put the base ones back."""
        self.tasks += 1
        for buffer, base, total in zip(self._buffers.placed(), self._base, self._sums, strict=True):
            if is_averaged(buffer) and is_averaged(total):
                total += self._mean_(buffer)
            elif is_target:
                total.copy_(buffer)
            buffer.copy_(base)

    def agree(self) -> None:
        """Bring floating buffers to their mean over the ranks."""
        for buffer in self._buffers.placed():
            if is_averaged(buffer):
                self._mean_(buffer)

    def state(self) -> dict[str, Tensor]:
        """By name and number what the round holds, none of it copied; the same on all ranks."""
        return {f"buffer/{what}/{i}": tensor for what, kept in self._kept() for i, tensor in enumerate(kept)}

    def load(self, state: Mapping[str, Tensor], tasks: int) -> None:
        """Take up a round that `tasks` have ended in; `begin_round` has been called."""
        for what, kept in self._kept():  # in their dtypes, which the model's buffers may have had no more
            kept[:] = [state[f"buffer/{what}/{i}"].to(t.device, copy=True) for i, t in enumerate(kept)]
        self.tasks = tasks

    def _kept(self) -> tuple[tuple[str, list[Tensor]], ...]:
        return ("base", self._base), ("sum", self._sums)

    def merge(self) -> None:
        """Set the model's buffers to the merged ones."""
        for buffer, total in zip(self._buffers.placed(), self._sums, strict=True):
            buffer.copy_(total / self.tasks if is_averaged(total) else total)


class StepBuffers:
    """Puts a model's buffers back after a step that was rejected: its forward pass may have written NaN.

    Args:
        buffers: of the model. All are copied before each step: torch does not tell which ones a step writes.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._before = buffers.present()
        self._copies = [torch.empty_like(buffer) for buffer in self._before]

    def keep(self) -> None:
        """Before a step."""
        self._before = self._buffers.present()
        for i, (buffer, copy) in enumerate(zip(self._before, self._copies, strict=True)):
            if copy.dtype == buffer.dtype:
                copy.copy_(buffer)
            else:
                self._copies[i] = buffer.clone()

    def put_back(self, rejected: Tensor) -> None:
        """After it; `rejected` is a bool on the device, which nothing waits for."""
        changed = set(self._buffers.changed())
        for i in changed:
            new = self._buffers.new(i)
            if new is not None:
                self._buffers.replace(i, torch.where(rejected, self._copies[i], new))
        for i, (buffer, copy) in enumerate(zip(self._before, self._copies, strict=True)):
            if i not in changed:
                torch.where(rejected, copy, buffer, out=buffer)


def is_averaged(buffer: Tensor) -> bool:
    """Whether tasks and ranks make a mean of it: floating, but not of fp8, which torch does not add up."""
    return buffer.is_floating_point() and buffer.itemsize > 1


def _sum_dtype(buffer: Tensor) -> torch.dtype:
    return torch.float64 if is_averaged(buffer) else buffer.dtype
