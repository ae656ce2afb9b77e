"""The format of a checkpoint's files: tensors as safetensors lays them out, and a checksum of every block.

The safetensors package writes a file from memory in one go, and holds up all of Python meanwhile. Here tensors
are written one by one, in a thread that lets training go on (writing.py); and whoever reads a part of a file
checks the blocks that it lies in, and reads no others (reading.py).

Format: https://huggingface.co/docs/safetensors/index#format, 8 bytes (length of the header, little endian), the
header in JSON, the tensors' bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from avil_fast.errors import AvilError

LENGTH = 8
"""Bytes that tell the length of the header."""

CHECKSUM_BLOCK = 4 << 20
"""Bytes that share a checksum. A rank that needs a part of a file reads no more than two blocks too much."""

DTYPES = {
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""safetensors' names."""

OF_NAME = {name: dtype for dtype, name in DTYPES.items()}


class Damaged(AvilError):
    """A file of a checkpoint is not what was written."""


@dataclass(frozen=True)
class Record:
    """Size and checksums that a file must have."""

    nbytes: int
    checksums: list[int]
    """CRC-32 of every `CHECKSUM_BLOCK` bytes, the last block as it falls."""
