"""⟨g, δ_i⟩ for every i. Reference: ops/delta_dots.py.

Bytes per element: 4 + n·e. A program takes GROUP deltas over its share of the chunks; programs of the other
deltas run beside it and find g in the L2 cache. A thread holds the same elements of all its deltas, so that it
loads g once for them; what it read of a block it adds in fp32 before the scale comes to it. These sums are
added lane by lane in fp32 within a chunk, then in fp64. What is left of a chunk goes a block at a time: masked
code for whole tiles would take registers from all threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from avil_fast.kernels import reduce, tile
from avil_fast.kernels.configs import DELTA_DOTS, capability, element
from avil_fast.kernels.tables import tables
from avil_fast.kernels.tile import BLOCK, FIELDS


@triton.jit
def folded(values, FOLD: tl.constexpr):
    """[deltas, rows, lanes] sums of FOLD neighbours of [deltas, rows, lanes · FOLD], in pairs of pairs.

    Written out, so that the order does not depend on which thread holds what, as it would in `tl.sum`.
    """
    if FOLD > 1:
        even, odd = halves(values)
        values = folded(even + odd, FOLD // 2)
    return values


@triton.jit
def halves(values):
    """The even and the odd of the last axis of [deltas, rows, lanes]."""
    return tl.split(tl.reshape(values, values.shape[0], values.shape[1], values.shape[2] // 2, 2))


@triton.jit
def _add_products(
    sums, grad, codes, scales, delta, code_stride, scale_stride, start, end,
    SCALED: tl.constexpr, SM: tl.constexpr, ROWS: tl.constexpr, LANE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """sums [deltas, ROWS, 256 / LANE] and g · δ of a tile [deltas, ROWS, 256], LANE elements added.

    What is fused is written out as well: a compiler may fuse either product of a sum of two.
    """
    at = tile.offsets(start, ROWS)
    inside = at < end
    row = (delta * code_stride)[:, None, None]
    code = tile.widen(tile.load(codes, row + at[None, :, :], inside[None, :, :], WHOLE), SM)
    g = tile.load(grad, at, inside, WHOLE).to(tl.float32)[None, :, :]
    even, odd = halves(code)
    g_even, g_odd = halves(g)
    product = folded(tl.fma(g_even, even, g_odd * odd), LANE // 2)
    if SCALED:
        block = start // BLOCK + tl.arange(0, ROWS)
        row = (delta * scale_stride)[:, None]
        scale = tile.load(scales, row + block[None, :], (block * BLOCK < end)[None, :], WHOLE)
        sums = tl.fma(product, scale[:, :, None], sums)
    else:
        sums += product
    return sums


@triton.jit(do_not_specialize=["count", "n", "programs"])
def delta_dots_kernel(
    partitions, chunks, count, partial, n, programs,
    GRAD: tl.constexpr, CODE: tl.constexpr, SCALED: tl.constexpr, SM: tl.constexpr, ALIGNED: tl.constexpr,
    GROUP: tl.constexpr, ROWS: tl.constexpr, LANE: tl.constexpr,
):  # fmt: skip
    TILE: tl.constexpr = ROWS * BLOCK
    delta = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    row = tl.minimum(delta, n - 1).to(tl.int64)  # beyond the last delta: the last one again, not stored
    totals = tl.zeros((GROUP, ROWS, BLOCK // LANE), tl.float64)
    rest = tl.zeros((GROUP, 1, BLOCK // LANE), tl.float64)
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
        products = tl.zeros((GROUP, ROWS, BLOCK // LANE), tl.float32)
        for done in range(0, length // TILE * TILE, TILE):
            products = _add_products(
                products, grad, codes, scales, row, code_stride, scale_stride, start + done, end,
                SCALED, SM, ROWS, LANE, True,
            )  # fmt: skip
        totals += products.to(tl.float64)
        ends = tl.zeros((GROUP, 1, BLOCK // LANE), tl.float32)
        for done in range(length // TILE * TILE, length, BLOCK):
            ends = _add_products(
                ends, grad, codes, scales, row, code_stride, scale_stride, start + done, end,
                SCALED, SM, 1, LANE, False,
            )  # fmt: skip
        rest += ends.to(tl.float64)
    sums = tl.sum(tl.sum(totals, axis=2), axis=1) + tl.sum(tl.sum(rest, axis=2), axis=1)
    tl.store(partial + tl.program_id(1) * n + delta, sums, mask=delta < n)


def delta_dots(grad: Sequence[Tensor], codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """As `avil_fast.ops.delta_dots`; arguments have been checked."""
    made, n = tables(codes, scales, grad), codes[0].shape[0]
    configs = DELTA_DOTS[codes[0].dtype]
    group = min(max(configs), triton.next_power_of_2(n))
    config = configs[group]
    programs = min(made.count, reduce.PROGRAMS)
    if programs == 0:
        return torch.zeros(n, dtype=torch.float64, device=codes[0].device)
    partial = torch.empty(programs, n, dtype=torch.float64, device=codes[0].device)
    delta_dots_kernel[(triton.cdiv(n, group), programs)](
        made.partitions,
        made.chunks,
        made.count,
        partial,
        n,
        programs,
        GRAD=element(grad[0].dtype),
        CODE=element(codes[0].dtype),
        SCALED=bool(scales),
        SM=capability(codes[0].device),
        ALIGNED=made.aligned,
        GROUP=group,
        ROWS=config.rows,
        LANE=config.lane,
        num_warps=config.warps,
    )
    return reduce.columns(partial)
