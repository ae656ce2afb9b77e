"""A partition: parameters of the model laid out in one flat tensor that this process owns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Partition:
    """Flattens parameters, so that the optimizer and the delta operations see one tensor.

    The parameters become views of `working`, their gradients views of `grad`. Where they are low
    precision (bf16, fp16), `trained` is a separate fp32 tensor; otherwise it is `working` itself.

    Args:
        parameters: distinct parameters of one dtype on one device.
        multiple: of which `numel` is made one, with zeros at the end, so that ranks can share the partition.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], multiple: int = 1) -> None:
        self.parameters = list(parameters)
        first = self.parameters[0]
        self.elements = sum(p.numel() for p in self.parameters)
        self.numel = -(-self.elements // multiple) * multiple
        self.working = torch.zeros(self.numel, dtype=first.dtype, device=first.device)
        self.grad = torch.zeros_like(self.working)
        for parameter, view, grad in self._views():
            view.copy_(parameter.detach())
            parameter.data = view
            parameter.grad = grad
        low = first.dtype in (torch.bfloat16, torch.float16)
        self.trained = nn.Parameter(self.working.float() if low else self.working)
        """[numel], fp32 (fp64 for a model in fp64): what an optimizer steps."""
        self.master = self.trained.detach()
        """The same memory, without a graph."""
        self.low = [self.working] if low else []

    def zero_grad(self) -> None:
        self.grad.zero_()

    def attach_grad(self) -> None:
        """Show the gradient to an optimizer that steps `trained`."""
        self.trained.grad = self.grad.to(self.trained.dtype)

    def write_low_precision(self) -> None:
        """Copy the master to the low-precision parameters, if there are any."""
        for low in self.low:
            low.copy_(self.master)

    def slices(self) -> list[tuple[nn.Parameter, int]]:
        """The parameters, and where each begins."""
        starts = itertools.accumulate((parameter.numel() for parameter in self.parameters), initial=0)
        return list(zip(self.parameters, starts, strict=False))

    def release(self) -> None:
        """Give every parameter memory of its own again."""
        release(self.parameters)

    def _views(self) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
        result, offset = [], 0
        for parameter in self.parameters:
            part = slice(offset, offset + parameter.numel())
            result.append(
                (parameter, self.working[part].view(parameter.shape), self.grad[part].view(parameter.shape))
            )
            offset = part.stop
        return result


def release(parameters: Iterable[nn.Parameter]) -> None:
    """Give parameters memory of their own, and no gradient."""
    for parameter in parameters:
        parameter.grad = None
        parameter.data = parameter.data.clone()
