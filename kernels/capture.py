"""Row `slot` ← encode(θ − base), θ ← base, ‖θ − base‖². Reference: ops/capture.py, ops/encoding.py.

Bytes per element: 12 + e, and 2 for the low-precision copy. The codes are those of the reference, bit for bit.
While a tile's blocks are searched for their maxima, the next tiles are on the way. What is left of a chunk goes a
block at a time, as in delta_dots.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from avil_fast.kernels import reduce, tile
from avil_fast.kernels.configs import CAPTURE, element
from avil_fast.kernels.tables import tables
from avil_fast.kernels.tile import BLOCK, FIELDS

INT8_MAX = tl.constexpr(127.0)
E4M3_MAX = tl.constexpr(448.0)
ROUNDER = tl.constexpr(12582912.0)  # 1.5 · 2²³: adding it leaves no bits after the point
FAR = tl.constexpr(16384.0)  # 2¹⁴: adding it makes the fp32 unit round to 2⁻⁹, the e4m3 unit below 2⁻⁶
TWO_TO_MINUS_6 = tl.constexpr(0x3C800000)  # as bits
INFINITY = tl.constexpr(0x7F800000)  # as bits


@triton.jit
def block_scale(delta, LARGEST: tl.constexpr):
    """[ROWS] max |δ| / LARGEST of [ROWS, 256]; not finite for a block that holds a NaN or an infinity."""
    # As bits, an infinity is above every number and a NaN above an infinity; a float maximum may lose NaN.
    magnitude = tl.max(delta.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=1).to(tl.float32, bitcast=True)
    return tl.div_rn(magnitude, LARGEST)


@triton.jit
def quotients(delta, scale, LARGEST: tl.constexpr):
    """[ROWS, 256] δ / scale within ±LARGEST; 0 where the scale is 0 or not finite."""
    usable = (scale > 0) & (scale.to(tl.int32, bitcast=True) < INFINITY)
    quotient = tl.div_rn(delta, tl.where(usable, scale, 1.0)[:, None])
    return tl.where(usable[:, None], tl.minimum(tl.maximum(quotient, -LARGEST), LARGEST), 0.0)


@triton.jit
def scaled_codes(quotient, CODE: tl.constexpr):
    """Quotients rounded half to even, as int8; or as e4m3, if CODE is uint8."""
    if CODE is tl.int8:
        codes = ((quotient + ROUNDER) - ROUNDER).to(tl.int8)
    else:
        bits = quotient.to(tl.int32, bitcast=True)
        magnitude = bits & 0x7FFFFFFF
        normal = (magnitude + (0x7FFFF - (120 << 23)) + ((magnitude >> 20) & 1)) >> 20
        small = (magnitude.to(tl.float32, bitcast=True) + FAR).to(tl.int32, bitcast=True) & 0xF
        codes = (tl.where(magnitude < TWO_TO_MINUS_6, small, normal) | ((bits >> 24) & 0x80)).to(tl.uint8)
    return codes


@triton.jit
def _capture_tile(
    codes, scales, theta, base, low, start, end,
    CODE: tl.constexpr, LOW: tl.constexpr, SCALED: tl.constexpr, ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Capture a tile; its δ² [ROWS, 256] fp64."""
    at = tile.offsets(start, ROWS)
    inside = at < end
    origin = tile.load(base, at, inside, WHOLE)
    delta = tile.load(theta, at, inside, WHOLE) - origin
    if SCALED:
        LARGEST: tl.constexpr = INT8_MAX if CODE is tl.int8 else E4M3_MAX
        scale = block_scale(delta, LARGEST)
        block = start // BLOCK + tl.arange(0, ROWS)
        tile.store(scales, block, block * BLOCK < end, scale, WHOLE)
        tile.store(codes, at, inside, scaled_codes(quotients(delta, scale, LARGEST), CODE), WHOLE)
    else:
        tile.store(codes, at, inside, tile.narrow(delta, CODE), WHOLE)
    tile.store(theta, at, inside, origin, WHOLE)
    if LOW is not None:
        tile.store(low, at, inside, tile.narrow(origin, LOW), WHOLE)
    wide = delta.to(tl.float64)
    return wide * wide


@triton.jit(do_not_specialize=["count", "slot", "programs"])
def capture_kernel(
    partitions, chunks, count, partial, slot, programs,
    CODE: tl.constexpr, LOW: tl.constexpr, SCALED: tl.constexpr, ALIGNED: tl.constexpr, ROWS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    TILE: tl.constexpr = ROWS * BLOCK
    squares = tl.zeros((ROWS, BLOCK), tl.float64)
    rest = tl.zeros((1, BLOCK), tl.float64)
    for c in range(tl.program_id(0), count, programs):
        chunk = chunks + 3 * c
        field = partitions + tl.load(chunk) * FIELDS
        codes = tile.pointer(field, CODE, ALIGNED) + slot * tile.stride(field + 1, CODE, ALIGNED)
        scales = tile.pointer(field + 2, tl.float32, False) + slot * tl.load(field + 3)
        theta = tile.pointer(field + 4, tl.float32, ALIGNED)
        base = tile.pointer(field + 5, tl.float32, ALIGNED)
        low = theta if LOW is None else tile.pointer(field + 6, LOW, ALIGNED)
        start = tl.load(chunk + 1)
        length = tl.load(chunk + 2).to(tl.int32)
        end = start + length
        for done in tl.range(0, length // TILE * TILE, TILE, num_stages=STAGES):
            squares += _capture_tile(
                codes, scales, theta, base, low, start + done, end, CODE, LOW, SCALED, ROWS, True
            )
        for done in range(length // TILE * TILE, length, BLOCK):
            rest += _capture_tile(codes, scales, theta, base, low, start + done, end, CODE, LOW, SCALED, 1, False)
    total = tl.sum(tl.sum(squares, axis=1), axis=0) + tl.sum(tl.sum(rest, axis=1), axis=0)
    tl.store(partial + tl.program_id(0), total)


def capture_(
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    slot: int,
    theta: Sequence[Tensor],
    base: Sequence[Tensor],
    low: Sequence[Tensor],
) -> Tensor:
    """As `avil_fast.ops.capture_`; arguments have been checked."""
    made, config = tables(codes, scales, theta, base, low), CAPTURE[codes[0].dtype]
    programs = min(made.count, reduce.PROGRAMS)
    if programs == 0:
        return torch.zeros((), dtype=torch.float64, device=codes[0].device)
    partial = torch.empty(programs, 1, dtype=torch.float64, device=codes[0].device)
    capture_kernel[(programs,)](
        made.partitions,
        made.chunks,
        made.count,
        partial,
        slot,
        programs,
        CODE=element(codes[0].dtype),
        LOW=element(low[0].dtype) if low else None,
        SCALED=bool(scales),
        ALIGNED=made.aligned,
        ROWS=config.rows,
        STAGES=config.stages,
        num_warps=config.warps,
    )
    return reduce.columns(partial).view(())
