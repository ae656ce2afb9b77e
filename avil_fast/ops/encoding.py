"""How a delta is stored: raw floats, or int8 or e4m3 codes with one fp32 scale per block.

A bank row is decoded as δ = code (float codes) or δ = scale · code (int8 and e4m3 codes, symmetric, one
scale per `BLOCK` elements, the last block of a row may be shorter). e4m3 is torch.float8_e4m3fn of "FP8
Formats for Deep Learning", arXiv 2209.05433: no infinities, and its NaN is never stored.

These are the reference functions; the fast backends decode in registers and agree with them bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
"""Elements that share one scale. With int8 the α gradient is 1.4e-3 off at most on real deltas."""

LARGEST = {torch.int8: 127, torch.float8_e4m3fn: 448}
"""The largest code of each type that has scales."""

CHUNK = 1 << 15
"""Elements the reference handles at a time on the CPU, a multiple of BLOCK: its temporaries stay under 1 MiB."""

GPU_CHUNK = 1 << 22
"""The same on a GPU, where every chunk is a dozen launches: the gram of 64 deltas takes some 300 MiB besides."""


def chunk_for(tensor: Tensor) -> int:
    """Elements that the reference handles at a time where a tensor lies."""
    return GPU_CHUNK if tensor.is_cuda else CHUNK


def blocks(numel: int) -> int:
    """Number of scales of a row of `numel` codes that have scales."""
    return -(-numel // BLOCK)


def decode(codes: Tensor, scales: Tensor | None, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Elements `start:stop` of one bank row as `dtype`.

    Args:
        codes: [numel], a float, int8 or e4m3.
        scales: [ceil(numel / BLOCK)] fp32 for int8 and e4m3 codes, else None.
        start, stop: the range; `start` is a multiple of BLOCK.
    """
    values = codes[start:stop].to(dtype)
    if scales is None:
        return values
    per_block = scales[start // BLOCK : blocks(stop)].to(dtype)
    return values * per_block.repeat_interleave(BLOCK)[: stop - start]


def encode_(codes: Tensor, scales: Tensor | None, start: int, delta: Tensor) -> None:
    """Store `delta` [m] in elements `start:start+m` of one bank row; `start` is a multiple of BLOCK.

    int8 and e4m3: scale = max|δ| / largest code over the block in fp32, code = δ / scale rounded half to even to
    the nearest code.
    A block that holds a NaN or an infinity gets a scale that is not finite, so that it decodes to NaN.
    """
    stop = start + delta.numel()
    if scales is None:
        codes[start:stop].copy_(delta)
        return
    count, largest = blocks(delta.numel()), LARGEST[codes.dtype]
    padded = delta.new_zeros(count * BLOCK)
    padded[: delta.numel()] = delta
    rows = padded.view(count, BLOCK)
    # Over a tensor: on a GPU torch divides by a number by multiplying with its reciprocal, which rounds twice.
    scale = rows.abs().amax(dim=1).float() / torch.full((), largest, dtype=torch.float32, device=rows.device)
    # Clamped: where the scale is subnormal its own rounding can take the quotient beyond the largest code.
    quotient = (rows / scale.to(rows.dtype).unsqueeze(1)).clamp_(-largest, largest)
    if codes.dtype == torch.int8:  # its cast truncates; that to e4m3 rounds
        quotient = quotient.round_()
    # 0/0 in an all-zero block and anything over a non-finite scale: the code is 0, the scale tells.
    quotient = torch.where((scale > 0).logical_and(scale.isfinite()).unsqueeze(1), quotient, 0.0)
    codes[start:stop] = quotient.view(-1)[: delta.numel()].to(codes.dtype)
    # An infinite scale must not decode a code of 0 to anything but NaN: inf · 0 is NaN already.
    scales[start // BLOCK : start // BLOCK + count] = scale
