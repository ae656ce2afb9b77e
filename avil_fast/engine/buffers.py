"""Buffers (BatchNorm statistics and the like) over a round.

They are never combined with α: a negative coefficient makes a negative variance, and NaN in the first
round. Each task starts from the round's buffers; afterwards floating buffers are the mean over tasks,
others (counters, fp8) the target's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Buffers:
    """A model's buffers by where they are: `forward` may put another tensor in one's place (`self.mean = ...`).

    One that it put there with the shape of the old one is the buffer from then on, in a copy of its own; without a
    graph. A tensor of another shape, or none, is taken for what `forward` can make again, as a table that grows:
    the buffer is then what it was before, and `placed` puts it back.

    Args:
        model: whose buffers; tied ones count once. Expanded ones, which cannot be written, become ordinary ones.
    """

    def __init__(self, model: nn.Module) -> None:
        self._places: list[tuple[dict[str, Tensor | None], str]] = []
        self._known: list[Tensor] = []
        """What is in each place, or was before `forward` put something there; of the shapes that they came in."""
        self.names: list[str] = []
        """As the model has them."""
        self._dtypes: list[torch.dtype] = []
        """That they came in."""
        owned: dict[int, Tensor] = {}
        for prefix, module in model.named_modules():
            for name, buffer in module._buffers.items():
                if buffer is None:
                    continue
                tied = id(buffer) in owned
                own = owned.setdefault(id(buffer), buffer.contiguous() if _is_expanded(buffer) else buffer)
                if own is not buffer:
                    module._buffers[name] = own
                if not tied:
                    self._places.append((module._buffers, name))
                    self._known.append(own)
                    self._dtypes.append(own.dtype)
                    self.names.append(f"{prefix}.{name}" if prefix else name)

    def present(self) -> list[Tensor]:
        """The buffers, for reading."""
        for i in self.changed():
            new = self.new(i)
            if new is not None:
                self.replace(i, new.to(torch.promote_types(new.dtype, self._known[i].dtype), copy=True))
        return list(self._known)

    def placed(self) -> list[Tensor]:
        """The buffers, for writing: each is in its place."""
        buffers = self.present()
        for i in self.changed():
            self.replace(i, buffers[i])
        return buffers

    def changed(self) -> list[int]:
        """The numbers of those in whose place another tensor is, or none, since they were last looked at."""
        known = zip(self._places, self._known, strict=True)
        return [i for i, ((held, name), was) in enumerate(known) if name not in held or held[name] is not was]

    def new(self, i: int) -> Tensor | None:
        """What is in the place of one that changed; None if it is not of its shape."""
        held, name = self._places[i]
        found = held[name] if name in held else None  # noqa: SIM401  TorchScript's has no get()
        return found.detach() if found is not None and found.shape == self._known[i].shape else None

    def widened(self) -> list[list[Any]]:
        """Number and dtype of those that `forward` has replaced by one of another dtype, in JSON's types."""
        present = zip(self.present(), self._dtypes, strict=True)
        return [[i, str(b.dtype).removeprefix("torch.")] for i, (b, came) in enumerate(present) if b.dtype != came]

    def widen(self, dtypes: Iterable[tuple[int, str]]) -> None:
        """Give those the dtypes that `widened` tells of, as their values do not fit otherwise."""
        present = self.present()
        for i, name in dtypes:
            self.replace(i, present[i].to(torch.promote_types(present[i].dtype, getattr(torch, name)), copy=True))

    def replace(self, i: int, tensor: Tensor) -> None:
        """Put a tensor of nobody else's in a buffer's place."""
        held, name = self._places[i]
        self._known[i] = held[name] = tensor


def _is_expanded(buffer: Tensor) -> bool:
    """Whether elements share memory."""
    strided = buffer.layout is torch.strided
    return strided and any(
        step == 0 and size > 1 for step, size in zip(buffer.stride(), buffer.shape, strict=True)
    )


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


def saved_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers that belong to a model's state, by name; others can be computed again."""
    saved = model.state_dict(keep_vars=True).keys()
    return ((name, buffer) for name, buffer in model.named_buffers() if name in saved)


def is_averaged(buffer: Tensor) -> bool:
    """Whether tasks and ranks make a mean of it: floating, but not of fp8, which torch does not add up."""
    return buffer.is_floating_point() and buffer.itemsize > 1


def _sum_dtype(buffer: Tensor) -> torch.dtype:
    return torch.float64 if is_averaged(buffer) else buffer.dtype
