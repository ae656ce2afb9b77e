"""How each kernel is cut into programs, per codec: few, named, no tuning at run time.

The fastest on an H200 at 2, 8 and 32 deltas of 64 Mi parameters, or close to it, of those that spill nothing
to local memory for sm_80 and sm_90 (tests/kernels/test_compiled.py). `delta_gram` of more than 32 deltas was not
timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton.language as tl
from triton import knobs


@dataclass(frozen=True)
class SumConfig:
    """Of `weighted_sum_`: a program has one tile."""

    rows: int
    """Blocks of 256 elements in a tile."""
    warps: int
    unroll: int
    """Deltas whose loads are issued together."""


@dataclass(frozen=True)
class CaptureConfig:
    """Of `capture_`: a program walks over the tiles of its chunks."""

    rows: int
    """Blocks of 256 elements in a tile."""
    warps: int
    stages: int
    """Tiles that are loaded while one is computed on, and that one."""


@dataclass(frozen=True)
class DotsConfig:
    """Of `delta_dots`: a program walks over the tiles of its chunks, for some of the deltas."""

    rows: int
    """Blocks of 256 elements in a tile."""
    lane: int
    """Neighbours that a thread adds up before their scale comes to them."""
    warps: int


@dataclass(frozen=True)
class GramConfig:
    """Of `delta_gram`: a program walks over the tiles of its chunks, for all pairs of deltas."""

    width: int
    """Elements of every delta in a tile; at most a block, where blocks have scales."""
    warps: int
    stages: int
    """Tiles that are loaded while one is computed on, and that one."""


WEIGHTED_SUM = {  # by codec
    torch.float32: SumConfig(rows=8, warps=8, unroll=2),
    torch.bfloat16: SumConfig(rows=4, warps=2, unroll=2),
    torch.int8: SumConfig(rows=4, warps=2, unroll=8),
    torch.float8_e4m3fn: SumConfig(rows=4, warps=2, unroll=8),
}
DELTA_DOTS = {  # by codec, and by how many deltas a program takes: every power of two up to the most
    torch.float32: {1: DotsConfig(16, 4, 8), 2: DotsConfig(16, 4, 8)},
    torch.bfloat16: {group: DotsConfig(4, 8, 4) for group in (1, 2, 4, 8)},
    torch.int8: {1: DotsConfig(4, 8, 2), 2: DotsConfig(4, 8, 4), 4: DotsConfig(4, 8, 2), 8: DotsConfig(2, 16, 2)},
    torch.float8_e4m3fn: {
        1: DotsConfig(4, 8, 2),
        2: DotsConfig(8, 8, 4),
        4: DotsConfig(4, 16, 2),
        8: DotsConfig(2, 16, 2),
    },
}
CAPTURE = {  # by codec
    torch.float32: CaptureConfig(rows=4, warps=8, stages=4),
    torch.bfloat16: CaptureConfig(rows=4, warps=8, stages=4),
    torch.int8: CaptureConfig(rows=4, warps=8, stages=3),
    torch.float8_e4m3fn: CaptureConfig(rows=4, warps=8, stages=3),
}
DELTA_GRAM = {  # by codec and side of the padded matrix
    torch.float32: {16: GramConfig(64, 1, 4), 32: GramConfig(64, 2, 4), 64: GramConfig(32, 4, 3)},
    torch.bfloat16: {16: GramConfig(128, 1, 4), 32: GramConfig(128, 2, 4), 64: GramConfig(128, 4, 3)},
    torch.int8: {16: GramConfig(256, 1, 3), 32: GramConfig(256, 4, 4), 64: GramConfig(128, 4, 3)},
    torch.float8_e4m3fn: {16: GramConfig(256, 1, 4), 32: GramConfig(256, 4, 4), 64: GramConfig(128, 8, 3)},
}


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


def factor(dtype: torch.dtype) -> tl.dtype:
    """The type in which tensor cores multiply codes: the narrowest that holds them exactly."""
    if dtype != torch.int8 and knobs.runtime.interpret:
        return tl.float32  # the interpreter would multiply the bits of bf16
    return tl.float16 if dtype == torch.float8_e4m3fn else element(dtype)


@cache
def capability(device: torch.device) -> int:
    """90 for sm_90; e4m3 has an instruction from 89 on. 0 in the interpreter, which knows no PTX."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
