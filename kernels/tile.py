"""What the kernels share: pointers from the tables, and tiles of deltas.

A tile is [rows, 256] elements of one delta, or [deltas, rows, 256] of several: a row is a block that shares
a scale. `WHOLE` tells that a tile lies within its chunk, so that its loads need no mask and are as
wide as the hardware's.
"""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = tl.constexpr(256)
FIELDS = tl.constexpr(8)


@triton.jit
def pointer(field, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """The address in a field of the table, as a pointer to DTYPE."""
    address = tl.load(field).to(tl.pointer_type(DTYPE))
    if ALIGNED:
        address = tl.multiple_of(address, 16)
    return address


@triton.jit
def stride(field, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """The distance in a field of the table between a bank's rows of DTYPE, in elements."""
    distance = tl.load(field)
    if ALIGNED:
        distance = tl.multiple_of(distance, 128 // DTYPE.primitive_bitwidth)
    return distance


@triton.jit
def offsets(start, ROWS: tl.constexpr):
    """[ROWS, 256] element numbers from `start`, a multiple of 256."""
    start = start // BLOCK * BLOCK  # tells the compiler; a hint on an argument would be lost when it inlines
    return start + (tl.arange(0, ROWS) * BLOCK)[:, None] + tl.arange(0, BLOCK)[None, :]


@triton.jit
def load(address, at, inside, WHOLE: tl.constexpr):
    """Elements `at`, 0 for those that are not inside."""
    return tl.load(address + at) if WHOLE else tl.load(address + at, mask=inside, other=0)


@triton.jit
def widen(code, HAS_E4M3: tl.constexpr):
    """Codes as fp32, exactly; uint8 is e4m3."""
    if code.dtype == tl.uint8 and HAS_E4M3:
        result = code.to(tl.float8e4nv, bitcast=True).to(tl.float32)
    elif code.dtype == tl.uint8:
        # Sign, exponent and mantissa put where fp32 has them, whose exponent has a bias of 127, not 7.
        bits = (code.to(tl.int8, bitcast=True).to(tl.int32) << 20) & -0x78100000
        result = bits.to(tl.float32, bitcast=True) * 1329227995784915872903807060280344576.0  # 2¹²⁰
    else:
        result = code.to(tl.float32)
    return result


@triton.jit
def store(address, at, inside, value, WHOLE: tl.constexpr):
    """Write elements `at`, but for those that are not inside."""
    if WHOLE:
        tl.store(address + at, value)
    else:
        tl.store(address + at, value, mask=inside)


@triton.jit
def narrow(value, DTYPE: tl.constexpr):
    """fp32 as DTYPE, rounded half to even. bf16 by its bits: Triton's interpreter would cut them off."""
    if DTYPE is tl.bfloat16:
        bits = value.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        result = tl.where(value != value, 0x7FC0, rounded).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        result = value.to(DTYPE)
    return result
