"""⟨δ_i, δ_j⟩ for all pairs. Reference: ops/delta_gram.py.

Bytes per element: n·e. A program multiplies a tile of all deltas with itself on tensor cores, padded to 16, 32
or 64 rows, and adds in fp64. int8 codes are multiplied as they are, exactly; e4m3 as fp16 and bf16 as such, which
holds their products exactly and rounds sums to fp32 within a tile; fp32 in three parts of tf32, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from avil_fast.kernels import reduce, tile
from avil_fast.kernels.configs import DELTA_GRAM, capability, element, factor
from avil_fast.kernels.tables import tables
from avil_fast.kernels.tile import BLOCK, FIELDS

PARTIAL = 1 << 20
"""fp64 sums that the programs leave in all, at most: 8 MiB."""


@triton.jit
def _products(
    codes, scales, row, code_stride, scale_stride, start, end,
    FACTOR: tl.constexpr, SCALED: tl.constexpr, SM: tl.constexpr, WIDTH: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """[SIDE, SIDE] fp64: a tile [SIDE, WIDTH] times itself."""
    at = start // WIDTH * WIDTH + tl.arange(0, WIDTH)
    code = tile.load(codes, (row * code_stride)[:, None] + at[None, :], (at < end)[None, :], WHOLE)
    factor = code if code.dtype == FACTOR else tile.widen(code, SM).to(FACTOR)
    if FACTOR is tl.int8:
        products = tl.dot(factor, tl.trans(factor), out_dtype=tl.int32).to(tl.float64)
    else:
        products = tl.dot(factor, tl.trans(factor), input_precision="tf32x3").to(tl.float64)
    if SCALED:
        scale = tl.load(scales + row * scale_stride + start // BLOCK).to(tl.float64)
        products *= scale[:, None] * scale[None, :]
    return products


@triton.jit(do_not_specialize=["count", "n", "programs"])
def delta_gram_kernel(
    partitions, chunks, count, partial, n, programs,
    CODE: tl.constexpr, FACTOR: tl.constexpr, SCALED: tl.constexpr, SM: tl.constexpr, ALIGNED: tl.constexpr,
    SIDE: tl.constexpr, WIDTH: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    delta = tl.arange(0, SIDE)
    row = tl.minimum(delta, n - 1).to(tl.int64)  # beyond the last delta: the last one again, not stored
    totals = tl.zeros((SIDE, SIDE), tl.float64)
    for c in range(tl.program_id(0), count, programs):
        chunk = chunks + 3 * c
        field = partitions + tl.load(chunk) * FIELDS
        codes = tile.pointer(field, CODE, ALIGNED)
        code_stride = tile.stride(field + 1, CODE, ALIGNED)
        scales = tile.pointer(field + 2, tl.float32, False)
        scale_stride = tl.load(field + 3)
        start = tl.load(chunk + 1)
        length = tl.load(chunk + 2).to(tl.int32)
        end = start + length
        for done in tl.range(0, length // WIDTH * WIDTH, WIDTH, num_stages=STAGES):
            totals += _products(
                codes, scales, row, code_stride, scale_stride, start + done, end,
                FACTOR, SCALED, SM, WIDTH, True,
            )  # fmt: skip
        if length % WIDTH != 0:
            totals += _products(
                codes, scales, row, code_stride, scale_stride, start + length // WIDTH * WIDTH, end,
                FACTOR, SCALED, SM, WIDTH, False,
            )  # fmt: skip
    cell = delta[:, None] * n + delta[None, :]
    inside = (delta < n)[:, None] & (delta < n)[None, :]
    tl.store(partial + tl.program_id(0) * n * n + cell, totals, mask=inside)


def delta_gram(codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """As `avil_fast.ops.delta_gram`; arguments have been checked."""
    made, n = tables(codes, scales), codes[0].shape[0]
    side = max(16, triton.next_power_of_2(n))
    config = DELTA_GRAM[codes[0].dtype][side]
    programs = min(made.count, reduce.PROGRAMS, PARTIAL // (n * n))
    if programs == 0:
        return torch.zeros(n, n, dtype=torch.float64, device=codes[0].device)
    partial = torch.empty(programs, n * n, dtype=torch.float64, device=codes[0].device)
    delta_gram_kernel[(programs,)](
        made.partitions,
        made.chunks,
        made.count,
        partial,
        n,
        programs,
        CODE=element(codes[0].dtype),
        FACTOR=factor(codes[0].dtype),
        SCALED=bool(scales),
        SM=capability(codes[0].device),
        ALIGNED=made.aligned,
        SIDE=side,
        WIDTH=config.width,
        STAGES=config.stages,
        num_warps=config.warps,
    )
    gram = reduce.columns(partial).view(n, n)
    return gram.triu() + gram.triu(1).T  # (i, j) and (j, i) may be rounded apart
