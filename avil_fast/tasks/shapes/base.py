"""What is known of a model without its weights: how many elements, and what a pass through it keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avil_fast.tasks.shapes.live_bytes import LiveBytes

Pass = Literal["training", "alpha", "evaluation"]
"""Of task training; of an α step, which is forward and backward in eval mode; of an evaluation, forward alone."""


@dataclass(frozen=True)
class Sizes:
    """Elements and bytes of a model and its tasks' heads."""

    shared: int
    """Trainable elements that all tasks share: N, the size of θ and of a delta."""
    heads: Sequence[int]
    """Trainable elements of each task's head, the target's first."""
    frozen: int
    """Elements that are not trained."""
    buffers: int
    """Bytes."""
    element: int
    """Bytes of a parameter."""
    largest: int
    """Elements of the largest parameter."""

    @property
    def trained(self) -> int:
        return self.shared + sum(self.heads)

    @property
    def whole(self) -> int:
        """Elements of all parameters."""
        return self.trained + self.frozen


@dataclass(frozen=True)
class Kept:
    """The most that a pass takes at once beside parameters and gradients, in bytes, and where that comes from."""

    nbytes: float
    formula: str


class Shape(ABC):
    """What is known of a run's model before it is loaded.

    Attributes:
        sizes: of its parameters.
        tokens: of an example at most; 1 for an image.
        notes: what was assumed, one sentence each.
    """

    sizes: Sizes
    tokens: int
    notes: list[str]

    @abstractmethod
    def kept(self, examples: int, kind: Pass) -> Kept:
        """What a pass over so many examples takes."""

    def changed(self, **settings: Any) -> Shape | None:
        """With other settings of the model; None where it has no such settings, or has these already."""
        return None


def traced(make: Callable[[], tuple[nn.Module, Callable[[nn.Module], Tensor]]], kind: Pass) -> int:
    """The most bytes that a pass takes beside parameters, gradients and its batch, counted on fake tensors.

    Args:
        make: a model and its loss on some batch; called where tensors have shapes and no memory.
        kind: of the pass.
    """
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        model, loss = make()
        model.train(kind == "training")
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        with torch.set_grad_enabled(kind != "evaluation"), LiveBytes() as live:
            found = loss(model)
            if kind != "evaluation":
                found.backward()  # type: ignore[no-untyped-call]
    peak: int = live.peak
    return peak


def count(model: nn.Module) -> tuple[int, int, int, int]:
    """(trainable elements, frozen ones, bytes of buffers, elements of the largest parameter); tied ones once."""
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter.numel() for parameter in model.parameters() if not parameter.requires_grad]
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    return sum(trained), sum(frozen), buffers, max([*trained, *frozen])
