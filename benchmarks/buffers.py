"""What the operations are measured on: a random bank in each codec, and the flat tensors beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avil_fast.deltas.codec import CODECS

ROTATION = 1 << 29
"""Bytes that the buffers of one call rotate over: many times any last-level cache."""


@dataclass
class Buffers:
    """One partition: a bank of n deltas, and flat tensors [numel] fp32."""

    codes: Tensor
    scales: list[Tensor]
    base: Tensor
    out: Tensor
    alpha: Tensor
    coefficients: list[float]
    """The same on the host, for what takes numbers: asking a GPU for them would wait for it."""

    @property
    def bank(self) -> tuple[list[Tensor], list[Tensor]]:
        return [self.codes], self.scales

    @property
    def n(self) -> int:
        return self.codes.shape[0]

    @property
    def numel(self) -> int:
        return self.codes.shape[1]

    @property
    def rows(self) -> list[Tensor]:
        return list(self.codes.unbind())


def make(codec: str, n: int, numel: int, device: torch.device, seed: int) -> Buffers:
    """Deltas of a thousandth of θ's size, as training makes them; `numel` is a multiple of 256."""
    generator = torch.Generator(device).manual_seed(seed)
    codes, scales = CODECS[codec].allocate(n, numel, device)
    for row in codes:
        if codec == "int8":
            row.copy_(torch.randint(-127, 128, (numel,), device=device, generator=generator, dtype=torch.int8))
        else:
            size = 50.0 if codec == "fp8" else 1e-3  # its codes go to 448
            row.copy_(torch.randn(numel, device=device, generator=generator).mul_(size))
    if scales is not None:
        scales.copy_(torch.rand(scales.shape, device=device, generator=generator).mul_(1e-5).add_(1e-5))
    alpha = torch.rand(n, device=device, generator=generator, dtype=torch.float64).add_(0.5)
    return Buffers(
        codes,
        [] if scales is None else [scales],
        torch.randn(numel, device=device, generator=generator),
        torch.empty(numel, device=device),
        alpha,
        alpha.tolist(),
    )
