"""Reads tensors of a checkpoint's file, or parts of them, and checks the blocks that these lie in."""

from __future__ import annotations

import json
import math
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from avil_fast.checkpoint import file_format
from avil_fast.checkpoint.file_format import LENGTH, OF_NAME, Damaged, Record
from avil_fast.errors import AvilError, reason


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
        record: the size and checksums that it must have.
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
            if size < LENGTH or len(record.checksums) != -(-size // file_format.CHECKSUM_BLOCK):
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
        first = block * file_format.CHECKSUM_BLOCK
        part = memoryview(self._bytes)[first : first + file_format.CHECKSUM_BLOCK]
        if zlib.crc32(part) != self._record.checksums[block]:
            raise Damaged(
                f"{str(self.path)!r} is damaged: bytes {first} to {first + len(part)} are not what was written"
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
        for block in range(start // file_format.CHECKSUM_BLOCK, -(-stop // file_format.CHECKSUM_BLOCK)):
            if block not in self.seen:
                self.check(block)
        return memoryview(self._bytes)[start:stop]
