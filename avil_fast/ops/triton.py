"""The operations on a CUDA device, as Triton kernels; on the CPU where Triton interprets.

`TRITON_INTERPRET=1` must be set before this module is first imported.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from triton import knobs

from avil_fast.kernels import capture, weighted_sum
from avil_fast.kernels.configs import ELEMENTS
from avil_fast.kernels.delta_dots import delta_dots as _delta_dots
from avil_fast.kernels.delta_gram import delta_gram as _delta_gram

DEVICES = frozenset({"cpu" if knobs.runtime.interpret else "cuda"})
DTYPES = frozenset(ELEMENTS)


def _on(tensor: Tensor) -> torch.cuda.device:
    """Triton launches on the current device, which need not be the tensors'; -1 changes nothing."""
    return torch.cuda.device(tensor.device if tensor.is_cuda else -1)


def weighted_sum_(
    out: Sequence[Tensor],
    base: Sequence[Tensor],
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    alpha: Tensor,
    low: Sequence[Tensor],
) -> None:
    with _on(codes[0]):
        weighted_sum.weighted_sum_(out, base, codes, scales, alpha, low)


def delta_dots(grad: Sequence[Tensor], codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    with _on(codes[0]):
        totals: Tensor = _delta_dots(grad, codes, scales)
        return totals


def capture_(
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    slot: int,
    theta: Sequence[Tensor],
    base: Sequence[Tensor],
    low: Sequence[Tensor],
) -> Tensor:
    with _on(codes[0]):
        squares: Tensor = capture.capture_(codes, scales, slot, theta, base, low)
        return squares


def delta_gram(codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    with _on(codes[0]):
        gram: Tensor = _delta_gram(codes, scales)
        return gram
