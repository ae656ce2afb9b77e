"""What the kernels share: pointers from the tables, and tiles of deltas.

A tile is [rows, 256] elements of one delta, or [deltas, rows, 256] of several: a row is a block that shares
a scale. `WHOLE` tells that a tile lies within its chunk, so that its loads need no mask and are as
wide as the hardware's.
"""

from __future__ import annotations

import triton
import triton.language as tl

from avil_fast.kernels import tables

BLOCK = tl.constexpr(256)
FIELDS = tl.constexpr(tables.FIELDS)


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


UNPACK = tl.constexpr("""{
    .reg .b32 biased;
    xor.b32 biased, $4, 0x80808080;
    prmt.b32 $0, biased, 0x4B000000, 0x7540;
    prmt.b32 $1, biased, 0x4B000000, 0x7541;
    prmt.b32 $2, biased, 0x4B000000, 0x7542;
    prmt.b32 $3, biased, 0x4B000000, 0x7543;
}""")
"""Four int8 as fp32 of 2²³ + 128 more: each code + 128 is put where fp32 has the last bits of 2²³."""


@triton.jit
def widen(code, SM: tl.constexpr):
    """Codes as fp32, exactly; uint8 is e4m3. SM is 90 for sm_90 (`configs.capability`).

    A GPU converts integers more slowly than it permutes bytes and adds: by `UNPACK`, dots of 8 and 32 int8 deltas
    are 13 and 23 % faster on an H200.
    """
    if code.dtype == tl.int8 and SM > 0:
        biased = tl.inline_asm_elementwise(UNPACK, "=r,=r,=r,=r,r", [code], dtype=tl.float32, is_pure=True, pack=4)
        result = biased - 8388736.0  # 2²³ + 128
    elif code.dtype == tl.uint8 and SM >= 89:
        result = code.to(tl.float8e4nv, bitcast=True).to(tl.float32)
    elif code.dtype == tl.uint8:  # no instruction for it
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
