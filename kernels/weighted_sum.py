"""out ← base + Σ α_i δ_i, and a low-precision copy of out. Reference: ops/weighted_sum.py.

Bytes per element: 8 + n·e, and 2 for the copy. A program holds one tile of the sum in registers and reads
each delta's tile once.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from avil_fast.kernels import tile
from avil_fast.kernels.configs import WEIGHTED_SUM, element, has_e4m3
from avil_fast.kernels.tables import CHUNK, tables
from avil_fast.kernels.tile import BLOCK, FIELDS


@triton.jit
def _sum_tile(
    out, base, low, codes, code_stride, scales, scale_stride, alpha, n, start, end,
    LOW: tl.constexpr, SCALED: tl.constexpr, HAS_E4M3: tl.constexpr, ROWS: tl.constexpr, UNROLL: tl.constexpr,
    WHOLE: tl.constexpr,
):  # fmt: skip
    at = tile.offsets(start, ROWS)
    block = start // BLOCK + tl.arange(0, ROWS)
    inside = at < end
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for i in tl.range(0, n, loop_unroll_factor=UNROLL):
        coefficient = tl.load(alpha + i).to(tl.float32)
        code = tile.widen(tile.load(codes + i * code_stride, at, inside, WHOLE), HAS_E4M3)
        if SCALED:
            scale = tile.load(scales + i * scale_stride, block, block * BLOCK < end, WHOLE)
            total += (coefficient * scale)[:, None] * code
        else:
            total += coefficient * code
    result = tile.load(base, at, inside, WHOLE) + total
    tile.store(out, at, inside, result, WHOLE)
    if LOW is not None:
        tile.store(low, at, inside, tile.narrow(result, LOW), WHOLE)


@triton.jit(do_not_specialize=["n"])
def kernel(
    partitions, chunks, alpha, n,
    CODE: tl.constexpr, LOW: tl.constexpr, SCALED: tl.constexpr, HAS_E4M3: tl.constexpr,
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
                out, base, low, codes, code_stride, scales, scale_stride, alpha, n, start, end,
                LOW, SCALED, HAS_E4M3, ROWS, UNROLL, True,
            )  # fmt: skip
        else:
            _sum_tile(
                out, base, low, codes, code_stride, scales, scale_stride, alpha, n, start, end,
                LOW, SCALED, HAS_E4M3, ROWS, UNROLL, False,
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
        kernel[(made.count * (CHUNK // (config.rows * 256)),)](
            made.partitions,
            made.chunks,
            alpha,
            alpha.shape[0],
            CODE=element(codes[0].dtype),
            LOW=element(low[0].dtype) if low else None,
            SCALED=bool(scales),
            HAS_E4M3=has_e4m3(codes[0].device),
            ALIGNED=made.aligned,
            CHUNK=CHUNK,
            ROWS=config.rows,
            UNROLL=config.unroll,
            num_warps=config.warps,
        )
