"""⟨g, δ_i⟩ for every i. Reference: ops/delta_dots.py.

Bytes per element: 4 + n·e. A program takes GROUP deltas over its share of the chunks; programs of the other
deltas run beside it and find g in the L2 cache. Products are summed lane by lane in fp32 within a chunk,
then in fp64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from avil_fast.kernels import reduce, tile
from avil_fast.kernels.configs import DELTA_DOTS, element, has_e4m3
from avil_fast.kernels.tables import tables
from avil_fast.kernels.tile import BLOCK, FIELDS


@triton.jit
def _products(
    grad, codes, scales, delta, code_stride, scale_stride, start, end,
    SCALED: tl.constexpr, HAS_E4M3: tl.constexpr, ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """g · δ of a tile [deltas, ROWS, 256]."""
    at = tile.offsets(start, ROWS)
    inside = at < end
    g = tile.load(grad, at, inside, WHOLE).to(tl.float32)
    row = (delta * code_stride)[:, None, None]
    product = g[None, :, :] * tile.widen(
        tile.load(codes, row + at[None, :, :], inside[None, :, :], WHOLE), HAS_E4M3
    )
    if SCALED:
        block = start // BLOCK + tl.arange(0, ROWS)
        row = (delta * scale_stride)[:, None]
        product *= tile.load(scales, row + block[None, :], (block * BLOCK < end)[None, :], WHOLE)[:, :, None]
    return product


@triton.jit
def kernel(
    partitions, chunks, count, partial, n, programs,
    GRAD: tl.constexpr, CODE: tl.constexpr, SCALED: tl.constexpr, HAS_E4M3: tl.constexpr, ALIGNED: tl.constexpr,
    GROUP: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    TILE: tl.constexpr = ROWS * BLOCK
    delta = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    row = tl.minimum(delta, n - 1).to(tl.int64)  # beyond the last delta: the last one again, not stored
    totals = tl.zeros((GROUP,), tl.float64)
    for c in range(tl.program_id(1), count, programs):
        chunk = chunks + 3 * c
        field = partitions + tl.load(chunk) * FIELDS
        codes = tile.pointer(field, CODE, ALIGNED)
        code_stride = tile.stride(field + 1, CODE, ALIGNED)
        scales = tile.pointer(field + 2, tl.float32, False)
        scale_stride = tl.load(field + 3)
        grad = tile.pointer(field + 4, GRAD, ALIGNED)
        start = tl.load(chunk + 1)
        length = tl.load(chunk + 2).to(tl.int32)
        end = start + length
        products = tl.zeros((GROUP, ROWS, BLOCK), tl.float32)
        for done in range(0, length // TILE * TILE, TILE):
            products += _products(
                grad, codes, scales, row, code_stride, scale_stride, start + done, end,
                SCALED, HAS_E4M3, ROWS, True,
            )  # fmt: skip
        if length % TILE != 0:
            products += _products(
                grad, codes, scales, row, code_stride, scale_stride, start + length // TILE * TILE, end,
                SCALED, HAS_E4M3, ROWS, False,
            )  # fmt: skip
        totals += tl.sum(tl.sum(products.to(tl.float64), axis=2), axis=1)
    tl.store(partial + tl.program_id(1) * n + delta, totals, mask=delta < n)


def delta_dots(grad: Sequence[Tensor], codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """As `avil_fast.ops.delta_dots`; arguments have been checked."""
    made, n = tables(codes, scales, grad), codes[0].shape[0]
    config = DELTA_DOTS[grad[0].dtype]
    group = min(config.group, triton.next_power_of_2(n))
    programs = min(made.count, reduce.PROGRAMS)
    if programs == 0:
        return torch.zeros(n, dtype=torch.float64, device=codes[0].device)
    partial = torch.empty(programs, n, dtype=torch.float64, device=codes[0].device)
    kernel[(triton.cdiv(n, group), programs)](
        made.partitions,
        made.chunks,
        made.count,
        partial,
        n,
        programs,
        GRAD=element(grad[0].dtype),
        CODE=element(codes[0].dtype),
        SCALED=bool(scales),
        HAS_E4M3=has_e4m3(codes[0].device),
        ALIGNED=made.aligned,
        GROUP=group,
        ROWS=config.rows * (config.group // group),
        num_warps=config.warps,
    )
    return reduce.columns(partial)
