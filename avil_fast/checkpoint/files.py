"""One file of a checkpoint: tensors as safetensors lays them out, with a checksum of every block of the file.

The safetensors package writes a file from memory in one go, and holds up all of Python meanwhile. Here tensors
are written one by one, in a thread that lets training go on; and whoever reads a part of a file checks the blocks
that it lies in, and reads no others.

Format: https://huggingface.co/docs/safetensors/index#format, 8 bytes (length of the header, little endian), the
header in JSON, the tensors' bytes.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avil_fast.errors import AvilError, reason

LENGTH = 8
"""Bytes that tell the length of the header."""

BLOCK = 4 << 20
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
    """What a file must be."""

    nbytes: int
    checksums: list[int]
    """CRC-32 of every `BLOCK` bytes, the last block as it falls."""


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
        return sum(piece.numel() * piece.element_size() for piece in self.pieces)


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
                sums.write(memory(piece.detach().cpu()))
        os.fsync(file.fileno())
    return Record(sums.nbytes, sums.checksums)


def memory(tensor: Tensor) -> memoryview:
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
            filled = self.nbytes % BLOCK
            part = data[: BLOCK - filled]
            written = self._write(part)  # a disk that fills up may take a part only, before it says so
            part = part[:written]
            if filled:
                self.checksums[-1] = zlib.crc32(part, self.checksums[-1])
            else:
                self.checksums.append(zlib.crc32(part))
            self.nbytes += len(part)
            data = data[written:]


@dataclass(frozen=True)
class _Part:
    """A tensor as the header tells it; `start` is counted from the header's end."""

    dtype: torch.dtype
    shape: list[int]
    start: int
    nbytes: int


def _header(text: bytes, nbytes: int) -> dict[str, _Part]:
    """The tensors of a file that has so many bytes after its header.

    Raises:
        ValueError, RecursionError, LookupError, TypeError, AttributeError: it is none.
    """
    found = {}
    for name, entry in json.loads(text).items():
        dtype, shape, (start, stop) = OF_NAME[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
            raise ValueError(f"{name} has numbers that are no counts")
        if stop > nbytes or stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} is to lie at {start} to {stop} of {nbytes} bytes")
        found[name] = _Part(dtype, shape, start, stop - start)
    return found


class Reader:
    """Reads tensors of a file, or parts of them, and checks each block that it touches.

    Args:
        path: the file.
        record: what it must be.
        seen: blocks that need not be checked again; those that are read are added.

    Raises:
        Damaged: at once if the size is another, else when a block with another checksum is read.
        AvilError: it cannot be read, which may have another cause than damage.
    """

    def __init__(self, path: Path, record: Record, seen: set[int] | None = None) -> None:
        self.path = path
        self._record = record
        self.seen: set[int] = set() if seen is None else seen
        """The blocks that were read."""
        try:
            size = path.stat().st_size
            if size != record.nbytes:
                raise Damaged(f"{str(path)!r} has {size} bytes, but {record.nbytes} were written")
            if size < LENGTH or len(record.checksums) != -(-size // BLOCK):
                raise Damaged(f"{str(path)!r} is damaged: {size} bytes with {len(record.checksums)} checksums")
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError as error:
            raise Damaged(f"{str(path)!r} cannot be read: {reason(error)}") from error
        except OSError as error:
            raise AvilError(f"{str(path)!r} cannot be read: {reason(error)}; check who may read it") from error
        length = int.from_bytes(self._read(0, LENGTH), "little")
        self._data = LENGTH + length
        if self._data > size:
            raise Damaged(f"{str(path)!r} is damaged: it has {size} bytes, but its header is to have {length}")
        try:
            self._header = _header(bytes(self._read(LENGTH, self._data)), size - self._data)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise Damaged(f"{str(path)!r} is damaged: its header is none, {error}") from error

    def names(self) -> Iterator[str]:
        return iter(self._header)

    def nbytes(self, name: str) -> int:
        """Of a tensor."""
        return self._part(name).nbytes

    def tensor(self, name: str) -> Tensor:
        """A tensor as it was written; of the file's memory, so it is not for keeping."""
        part = self._part(name)
        return self.elements(name, 0, part.nbytes // part.dtype.itemsize).view(part.shape)

    def elements(self, name: str, start: int, stop: int) -> Tensor:
        """Elements start:stop of a tensor, counted without regard to its shape."""
        part = self._part(name)
        dtype = part.dtype
        if stop * dtype.itemsize > part.nbytes:
            raise Damaged(f"{str(self.path)!r} is no whole checkpoint: its {name} has no element {stop - 1}")
        first = self._data + part.start + start * dtype.itemsize
        data = self._read(first, first + (stop - start) * dtype.itemsize)
        if not data:
            return torch.empty(0, dtype=dtype)
        whole = torch.frombuffer(data, dtype=torch.uint8)
        aligned = whole if first % dtype.itemsize == 0 else whole.clone()
        return aligned.view(dtype)

    def check(self, block: int) -> None:
        """Read a block."""
        part = memoryview(self._bytes)[block * BLOCK : (block + 1) * BLOCK]
        if zlib.crc32(part) != self._record.checksums[block]:
            raise Damaged(
                f"{str(self.path)!r} is damaged: bytes {block * BLOCK} to {block * BLOCK + len(part)} are not "
                f"what was written"
            )
        self.seen.add(block)

    def check_all(self) -> None:
        """Read every block that was not read yet."""
        for block in range(len(self._record.checksums)):
            if block not in self.seen:
                self.check(block)

    def _part(self, name: str) -> _Part:
        try:
            return self._header[name]
        except KeyError:
            raise Damaged(f"{str(self.path)!r} is no whole checkpoint: it has no {name}") from None

    def _read(self, start: int, stop: int) -> memoryview:
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            if block not in self.seen:
                self.check(block)
        return memoryview(self._bytes)[start:stop]
