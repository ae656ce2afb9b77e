"""out ← base + Σ α_i δ_i, and a low-precision copy of out. Reference: ops/weighted_sum.py.

Bytes per element: 8 + n·e, and 2 for the copy. A program holds one tile of the sum in registers and reads
each delta's tile once. The code is made for the number of deltas, which a run does not change.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from avil_fast.kernels import tile
from avil_fast.kernels.configs import WEIGHTED_SUM, capability, element
from avil_fast.kernels.tables import CHUNK, tables
from avil_fast.kernels.tile import BLOCK, FIELDS


@triton.jit
def _add(
    total, i, codes, code_stride, scales, scale_stride, alpha, at, block, end,
    SCALED: tl.constexpr, SM: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """total + α_i δ_i of a tile."""
    factor = tl.load(alpha + i).to(tl.float32)
    if SCALED:
        factor *= tile.load(scales + i * scale_stride, block, block * BLOCK < end, WHOLE)
        factor = factor[:, None]
    return total + factor * tile.widen(tile.load(codes + i * code_stride, at, at < end, WHOLE), SM)


@triton.jit
def _sum_tile(
    out, base, low, codes, code_stride, scales, scale_stride, alpha, start, end,
    N: tl.constexpr, LOW: tl.constexpr, SCALED: tl.constexpr, SM: tl.constexpr, ROWS: tl.constexpr,
    UNROLL: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    at = tile.offsets(start, ROWS)
    block = start // BLOCK + tl.arange(0, ROWS)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    # The end of a chunk takes one delta at a time: what it had in registers would leave the rest fewer threads.
    STEP: tl.constexpr = UNROLL if WHOLE else 1
    for first in range(0, N // STEP * STEP, STEP):
        for j in tl.static_range(STEP):
            total = _add(
                total, first + j, codes, code_stride, scales, scale_stride, alpha, at, block, end,
                SCALED, SM, WHOLE,
            )  # fmt: skip
    for i in tl.static_range(N // STEP * STEP, N):
        total = _add(
            total, i, codes, code_stride, scales, scale_stride, alpha, at, block, end,
            SCALED, SM, WHOLE,
        )  # fmt: skip
    result = tile.load(base, at, at < end, WHOLE) + total
    tile.store(out, at, at < end, result, WHOLE)
    if LOW is not None:
        tile.store(low, at, at < end, tile.narrow(result, LOW), WHOLE)


@triton.jit
def weighted_sum_kernel(
    partitions, chunks, alpha,
    N: tl.constexpr, CODE: tl.constexpr, LOW: tl.constexpr, SCALED: tl.constexpr, SM: tl.constexpr,
    ALIGNED: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    TILE: tl.constexpr = ROWS * BLOCK
    program = tl.program_id(0)
    chunk = chunks + 3 * (program // (CHUNK // TILE))
    start = tl.load(chunk + 1) + program % (CHUNK // TILE) * TILE
    end = tl.load(chunk + 1) + tl.load(chunk + 2)
    if start < end:
        field = partitions + tl.load(chunk) * FIELDS
        codes = tile.pointer(field, CODE, ALIGNED)
        code_stride = tile.stride(field + 1, CODE, ALIGNED)
        scales = tile.pointer(field + 2, tl.float32, False)
        scale_stride = tl.load(field + 3)
        out = tile.pointer(field + 4, tl.float32, ALIGNED)
        base = tile.pointer(field + 5, tl.float32, ALIGNED)
        low = out if LOW is None else tile.pointer(field + 6, LOW, ALIGNED)
        if start + TILE <= end:
            _sum_tile(
                out, base, low, codes, code_stride, scales, scale_stride, alpha, start, end,
                N, LOW, SCALED, SM, ROWS, UNROLL, True,
            )  # fmt: skip
        else:
            _sum_tile(
                out, base, low, codes, code_stride, scales, scale_stride, alpha, start, end,
                N, LOW, SCALED, SM, ROWS, UNROLL, False,
            )  # fmt: skip


def weighted_sum_(
    out: Sequence[Tensor],
    base: Sequence[Tensor],
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    alpha: Tensor,
    low: Sequence[Tensor],
) -> None:
    """As `avil_fast.ops.weighted_sum_`; arguments have been checked."""
    made = tables(codes, scales, out, base, low)
    config = WEIGHTED_SUM[codes[0].dtype]
    if made.count:
        weighted_sum_kernel[(made.count * (CHUNK // (config.rows * BLOCK.value)),)](
            made.partitions,
            made.chunks,
            alpha,
            N=alpha.shape[0],
            CODE=element(codes[0].dtype),
            LOW=element(low[0].dtype) if low else None,
            SCALED=bool(scales),
            SM=capability(codes[0].device),
            ALIGNED=made.aligned,
            CHUNK=CHUNK,
            ROWS=config.rows,
            UNROLL=config.unroll,
            num_warps=config.warps,
        )
