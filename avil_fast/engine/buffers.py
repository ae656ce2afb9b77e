"""Buffers (BatchNorm statistics and the like) over a round.

They are never combined with α: a negative coefficient makes a negative variance, and NaN in the first
round. Each task starts from the round's buffers; afterwards floating buffers are the mean over tasks,
others (counters) the target's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn


class RoundBuffers:
    """Keeps the round's base buffers and adds up what the tasks made of them.

    Args:
        model: whose buffers.
        mean_: brings a tensor to its mean over the ranks, which see other examples.
    """

    def __init__(self, model: nn.Module, mean_: Callable[[Tensor], Tensor]) -> None:
        self._buffers = list(model.buffers())
        self._mean_ = mean_
        self._base: list[Tensor] = []
        self._sums: list[Tensor] = []
        self.tasks = 0
        """Number of tasks that have ended in this round."""

    def begin_round(self) -> None:
        self._base = [buffer.clone() for buffer in self._buffers]
        self._sums = [torch.zeros_like(buffer, dtype=_sum_dtype(buffer)) for buffer in self._buffers]
        self.tasks = 0

    def end_task(self, is_target: bool) -> None:
        """Record the task's buffers and put the base ones back."""
        self.tasks += 1
        for buffer, base, total in zip(self._buffers, self._base, self._sums, strict=True):
            if buffer.is_floating_point():
                total += self._mean_(buffer)
            elif is_target:
                total.copy_(buffer)
            buffer.copy_(base)

    def agree(self) -> None:
        """Bring floating buffers to their mean over the ranks."""
        for buffer in self._buffers:
            if buffer.is_floating_point():
                self._mean_(buffer)

    def state(self) -> dict[str, Tensor]:
        """By name and number what the round holds, none of it copied; the same on all ranks."""
        named = {"base": self._base, "sum": self._sums}
        return {f"buffer/{what}/{i}": tensor for what, kept in named.items() for i, tensor in enumerate(kept)}

    def load(self, state: Mapping[str, Tensor], tasks: int) -> None:
        """Take up a round that `tasks` have ended in; `begin_round` has been called."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self.tasks = tasks

    def merge(self) -> None:
        """Set the model's buffers to the merged ones."""
        for buffer, total in zip(self._buffers, self._sums, strict=True):
            buffer.copy_(total / self.tasks if buffer.is_floating_point() else total)


class StepBuffers:
    """Puts a model's buffers back after a step that was rejected: its forward pass may have written NaN.

    Args:
        model: whose buffers. All are copied before each step: torch does not tell which ones a step writes.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._copies = [torch.empty_like(buffer) for buffer in self._buffers]

    def keep(self) -> None:
        """Before a step."""
        for buffer, copy in zip(self._buffers, self._copies, strict=True):
            copy.copy_(buffer)

    def put_back(self, rejected: Tensor) -> None:
        """After it; `rejected` is a bool on the device, which nothing waits for."""
        for buffer, copy in zip(self._buffers, self._copies, strict=True):
            torch.where(rejected, copy, buffer, out=buffer)


def saved_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers that belong to a model's state, by name; others can be computed again."""
    saved = model.state_dict(keep_vars=True).keys()
    return ((name, buffer) for name, buffer in model.named_buffers() if name in saved)


def _sum_dtype(buffer: Tensor) -> torch.dtype:
    return torch.float64 if buffer.is_floating_point() else buffer.dtype
