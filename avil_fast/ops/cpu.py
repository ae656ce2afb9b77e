"""The operations on the CPU, bound to the C++ extension. Same signatures as the `reference` functions.

Arguments have been checked; here only addresses, strides and type tags change hands.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avil_fast import _C
from avil_fast.ops import backend

CODECS = {
    torch.float32: _C.Codec.fp32,
    torch.bfloat16: _C.Codec.bf16,
    torch.int8: _C.Codec.int8,
    torch.float8_e4m3fn: _C.Codec.fp8,
}
LOWS = {torch.bfloat16: _C.Low.bf16, torch.float16: _C.Low.fp16}
if backend.forked:
    _C.lose_openmp()

DEVICES = frozenset({"cpu"})
DTYPES = frozenset({*CODECS, *LOWS})


def obstacle(device: torch.device) -> str | None:
    """What keeps this backend from running on a device; nothing does."""
    return None


def instructions() -> str:
    """The instruction set that its kernels use on this processor."""
    return _C.isa()


def _bank(codes: Sequence[Tensor], scales: Sequence[Tensor]) -> _C.Bank:
    return _C.Bank(
        codes[0].shape[0],
        CODECS[codes[0].dtype],
        [row.shape[1] for row in codes],
        [row.data_ptr() for row in codes],
        [row.stride(0) for row in codes],
        [scale.data_ptr() for scale in scales],
        [scale.stride(0) for scale in scales],
    )


def _addresses(tensors: Sequence[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _low(low: Sequence[Tensor]) -> _C.Low:
    return LOWS[low[0].dtype] if low else _C.Low.none


def weighted_sum_(
    out: Sequence[Tensor],
    base: Sequence[Tensor],
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    alpha: Tensor,
    low: Sequence[Tensor],
) -> None:
    _C.weighted_sum(
        _bank(codes, scales),
        _addresses(out),
        _addresses(base),
        alpha.tolist(),
        _low(low),
        _addresses(low),
        torch.get_num_threads(),
    )


def delta_dots(grad: Sequence[Tensor], codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    totals = torch.empty(codes[0].shape[0], dtype=torch.float64)
    _C.delta_dots(
        _bank(codes, scales),
        grad[0].dtype == torch.bfloat16,
        _addresses(grad),
        totals.data_ptr(),
        torch.get_num_threads(),
    )
    return totals


def capture_(
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    slot: int,
    theta: Sequence[Tensor],
    base: Sequence[Tensor],
    low: Sequence[Tensor],
) -> Tensor:
    squares = _C.capture(
        _bank(codes, scales),
        slot,
        _addresses(theta),
        _addresses(base),
        _low(low),
        _addresses(low),
        torch.get_num_threads(),
    )
    return torch.tensor(squares, dtype=torch.float64)


def delta_gram(codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    n = codes[0].shape[0]
    gram = torch.empty((n, n), dtype=torch.float64)
    _C.delta_gram(_bank(codes, scales), gram.data_ptr(), torch.get_num_threads())
    return gram
