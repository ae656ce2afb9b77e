"""How each kernel is cut into programs, per codec: few, named, no tuning at run time.

Chosen for bytes in flight, from the compiled code: 16-byte loads, no spills, no local memory
(tests/kernels/test_compiled.py). Not yet measured on a GPU: `python -m benchmarks.kernels --device cuda`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton.language as tl


@dataclass(frozen=True)
class TileConfig:
    rows: int
    """Blocks of 256 elements in a tile."""
    warps: int
    unroll: int = 1
    """Deltas whose loads are issued together."""


@dataclass(frozen=True)
class DotsConfig:
    group: int
    """Deltas that a program takes: with fewer, g is read more often from the L2 cache."""
    rows: int
    """Blocks of 256 elements in a tile of `group` deltas; in one of fewer, as many times more."""
    warps: int


WEIGHTED_SUM = {  # by codec
    torch.float32: TileConfig(rows=8, warps=8, unroll=2),
    torch.bfloat16: TileConfig(rows=8, warps=8, unroll=4),
    torch.int8: TileConfig(rows=8, warps=4, unroll=4),
    torch.float8_e4m3fn: TileConfig(rows=4, warps=2, unroll=4),  # rows=8, warps=4 spill on sm_80
}
DELTA_DOTS = {  # by the type of g, of which a thread reads 16 bytes at a time
    torch.float32: DotsConfig(group=8, rows=2, warps=4),
    torch.bfloat16: DotsConfig(group=4, rows=4, warps=4),
}
CAPTURE = {  # by codec
    torch.float32: TileConfig(rows=8, warps=8),
    torch.bfloat16: TileConfig(rows=8, warps=8),
    torch.int8: TileConfig(rows=8, warps=4),
    torch.float8_e4m3fn: TileConfig(rows=8, warps=4),
}
GRAM_WARPS = {  # by codec and the side of the padded matrix; half or twice as many spill
    torch.float32: {16: 4, 32: 4, 64: 8},
    torch.bfloat16: {16: 4, 32: 8, 64: 16},
    torch.int8: {16: 4, 32: 8, 64: 16},
    torch.float8_e4m3fn: {16: 4, 32: 8, 64: 16},
}


def gram_width(codec: torch.dtype, side: int) -> int:
    """Elements of every delta in a tile of `delta_gram`: as many as let each thread read 16 bytes."""
    return 16 // codec.itemsize * 32 * GRAM_WARPS[codec][side] // side


ELEMENTS = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.int8: tl.int8,
    torch.float8_e4m3fn: tl.uint8,  # its bits: Triton has no e4m3 before sm_89
}


def element(dtype: torch.dtype) -> tl.dtype:
    """Triton's name for an element type."""
    return ELEMENTS[dtype]


@cache
def has_e4m3(device: torch.device) -> bool:
    """Whether the GPU converts e4m3 itself, as from sm_89 on: 2.6 instructions per code less than by its bits.

    Counted in `weighted_sum_` for sm_90: 1624 instructions, or 2048 by the bits.
    """
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)
