"""Elements of a model that has shapes and no memory, and what a pass through it takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from avil_fast.tasks.shapes.base import Pass
from avil_fast.tasks.shapes.live_bytes import LiveBytes


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
