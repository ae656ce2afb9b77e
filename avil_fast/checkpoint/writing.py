"""Writes a file of a checkpoint: tensors one by one, and a checksum of every block."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avil_fast.checkpoint import file_format
from avil_fast.checkpoint.file_format import DTYPES, LENGTH, Record


@dataclass(frozen=True)
class Entry:
    """A tensor to write, in pieces that lie end to end: of one dtype, and one dimension if there are several."""

    name: str
    pieces: list[Tensor]

    @property
    def shape(self) -> list[int]:
        return list(self.pieces[0].shape) if len(self.pieces) == 1 else [sum(p.numel() for p in self.pieces)]

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)


def write(path: Path, entries: Iterable[Entry]) -> Record:
    """Write a file and wait until it is on the disk.

    Args:
        path: must not exist.
        entries: on any device; those that are not in CPU memory are copied there one by one.

    Raises:
        OSError: the disk is full, or the like.
    """
    entries = list(entries)
    header: dict[str, Any] = {}
    end = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": DTYPES[entry.pieces[0].dtype],
            "shape": entry.shape,
            "data_offsets": [end, end + entry.nbytes],
        }
        end += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8 bytes
    with path.open("xb", buffering=0) as file:
        sums = _Summed(file.write)
        sums.write(memoryview(len(text).to_bytes(LENGTH, "little") + text))
        for entry in entries:
            for piece in entry.pieces:
                sums.write(as_bytes(piece.detach().cpu()))
        os.fsync(file.fileno())
    return Record(sums.nbytes, sums.checksums)


def as_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in CPU memory; its own ones if it is contiguous."""
    return memoryview(tensor.contiguous().view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # arrays are buffers


class _Summed:
    """Writes on, block by block, and sums up each."""

    def __init__(self, write: Callable[[memoryview], int]) -> None:
        self._write = write
        self.nbytes = 0
        self.checksums: list[int] = []

    def write(self, data: memoryview) -> None:
        while data:
            filled = self.nbytes % file_format.CHECKSUM_BLOCK
            part = data[: file_format.CHECKSUM_BLOCK - filled]
            written = self._write(part)  # a disk that fills up may take a part only, before it says so
            part = part[:written]
            if filled:
                self.checksums[-1] = zlib.crc32(part, self.checksums[-1])
            else:
                self.checksums.append(zlib.crc32(part))
            self.nbytes += len(part)
            data = data[written:]
