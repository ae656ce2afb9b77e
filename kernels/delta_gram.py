"""⟨δ_i, δ_j⟩ for all pairs. Reference: ops/delta_gram.py.

Bytes per element: n·e. A program multiplies a tile of all deltas with itself, in fp32 within a chunk, and
adds in fp64. It is the arithmetic that takes the time: the matrix is padded to 16, 32 or 64 rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from avil_fast.kernels import reduce, tile
from avil_fast.kernels.configs import GRAM_WARPS, element, gram_width, has_e4m3
from avil_fast.kernels.tables import tables
from avil_fast.kernels.tile import BLOCK, FIELDS

PARTIAL = 1 << 17
"""fp64 sums that the programs leave in all: 1 MiB."""


@triton.jit
def _add_products(
    products, codes, scales, row, code_stride, scale_stride, start, end,
    SCALED: tl.constexpr, HAS_E4M3: tl.constexpr, WIDTH: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """products [SIDE, SIDE] and those of a tile [SIDE, WIDTH] with itself."""
    at = start // WIDTH * WIDTH + tl.arange(0, WIDTH)
    code = tile.load(codes, (row * code_stride)[:, None] + at[None, :], (at < end)[None, :], WHOLE)
    decoded = tile.widen(code, HAS_E4M3)
    if SCALED:
        decoded *= tl.load(scales + row * scale_stride + start // BLOCK)[:, None]
    return tl.dot(decoded, tl.trans(decoded), products, input_precision="ieee")


@triton.jit
def kernel(
    partitions, chunks, count, partial, n, programs,
    CODE: tl.constexpr, SCALED: tl.constexpr, HAS_E4M3: tl.constexpr, ALIGNED: tl.constexpr,
    SIDE: tl.constexpr, WIDTH: tl.constexpr,
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
        products = tl.zeros((SIDE, SIDE), tl.float32)
        for done in range(0, length // WIDTH * WIDTH, WIDTH):
            products = _add_products(
                products, codes, scales, row, code_stride, scale_stride, start + done, start + length,
                SCALED, HAS_E4M3, WIDTH, True,
            )  # fmt: skip
        if length % WIDTH != 0:
            products = _add_products(
                products, codes, scales, row, code_stride, scale_stride,
                start + length // WIDTH * WIDTH, start + length, SCALED, HAS_E4M3, WIDTH, False,
            )  # fmt: skip
        totals += products.to(tl.float64)
    cell = delta[:, None] * n + delta[None, :]
    inside = (delta < n)[:, None] & (delta < n)[None, :]
    tl.store(partial + tl.program_id(0) * n * n + cell, totals, mask=inside)


def delta_gram(codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """As `avil_fast.ops.delta_gram`; arguments have been checked."""
    made, n = tables(codes, scales), codes[0].shape[0]
    side = max(16, triton.next_power_of_2(n))
    programs = min(made.count, reduce.PROGRAMS, PARTIAL // (n * n))
    if programs == 0:
        return torch.zeros(n, n, dtype=torch.float64, device=codes[0].device)
    partial = torch.empty(programs, n * n, dtype=torch.float64, device=codes[0].device)
    kernel[(programs,)](
        made.partitions,
        made.chunks,
        made.count,
        partial,
        n,
        programs,
        CODE=element(codes[0].dtype),
        SCALED=bool(scales),
        HAS_E4M3=has_e4m3(codes[0].device),
        ALIGNED=made.aligned,
        SIDE=side,
        WIDTH=gram_width(codes[0].dtype, side),
        num_warps=GRAM_WARPS[codes[0].dtype][side],
    )
    gram = reduce.columns(partial).view(n, n)
    return gram.triu() + gram.triu(1).T  # (i, j) and (j, i) may be rounded apart
