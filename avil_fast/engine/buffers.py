"""A model's buffers: BatchNorm statistics, counters and the like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def saved_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers that belong to a model's state, by name; others can be computed again."""
    saved = model.state_dict(keep_vars=True).keys()
    return ((name, buffer) for name, buffer in model.named_buffers() if name in saved)
