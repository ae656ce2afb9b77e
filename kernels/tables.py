"""What a launch over many partitions reads on the device: where each one lies, and who takes which part.

Both tables are made at the first call on given tensors and kept, so that later calls copy nothing to the
device and can be captured in a CUDA graph. Those that a capture uses are kept for good: the graph reads them
whenever it is replayed, and nothing tells when it is gone.

A bank that is streamed in windows makes a call per window, hundreds of them for every operation, in the same
order each time: a cache of so many entries would drop each just before it is asked for again. What is kept is
therefore bounded by its bytes, which grow with the bank's elements and not with the calls they are cut into.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1 << 15
"""Elements of the parts in which partitions are handed out. A chunk's sums are kept in fp32 until its end."""

FIELDS = 8
"""Columns of `Tables.partitions`: codes, their stride, scales, their stride, and up to four flat tensors."""

VECTOR = 16
"""Bytes of the widest load and store; only addresses that are multiples of it allow them."""

CACHE_BYTES = 1 << 26
"""Bytes of tables kept at most: for each operation a streamed bank takes 24 for every chunk, and for every window
of 64 MiB another kilobyte."""

GRAIN = 512
"""Bytes to which torch rounds an allocation on the device."""

Row = tuple[int, ...]


@dataclass(frozen=True)
class Tables:
    partitions: Tensor
    """[partitions, FIELDS] int64: addresses, and strides in elements."""
    chunks: Tensor
    """[chunks, 3] int64: partition, first element, number of elements, which is CHUNK or less."""
    aligned: bool
    """Every address, and every row's, is a multiple of VECTOR bytes."""

    @property
    def count(self) -> int:
        return self.chunks.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes taken on the device."""
        return sum(-(-table.nbytes // GRAIN) * GRAIN for table in (self.partitions, self.chunks))


class TableCache:
    """What `_build` made, by its arguments; the least recently used go first when there is too much of it.

    What a CUDA graph was captured with does not count, and stays.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.misses = 0
        self.nbytes = 0
        self._tables: OrderedDict[object, Tables] = OrderedDict()
        self._captured: dict[object, Tables] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tables)

    def get(self, device: torch.device, size: int, numels: Row, rows: tuple[Row, ...]) -> Tables:
        key = (device, size, numels, rows)
        with self._lock:
            found = self._captured.get(key) or self._tables.get(key) or self._make(key, device, size, numels, rows)
            if key in self._tables:
                self._tables.move_to_end(key)
                if _capturing(device):
                    self._captured[key] = self._drop(key)
            return found

    def _make(self, key: object, device: torch.device, size: int, numels: Row, rows: tuple[Row, ...]) -> Tables:
        self.misses += 1
        made = self._tables[key] = _build(device, size, numels, rows)
        self.nbytes += made.nbytes
        while self.nbytes > self.limit and len(self) > 1:
            self._drop(next(iter(self._tables)))
        return made

    def _drop(self, key: object) -> Tables:
        dropped = self._tables.pop(key)
        self.nbytes -= dropped.nbytes
        return dropped

    def clear(self) -> None:
        self._tables.clear()
        self._captured.clear()
        self.misses = self.nbytes = 0


cache = TableCache(CACHE_BYTES)


def tables(codes: Sequence[Tensor], scales: Sequence[Tensor], *flats: Sequence[Tensor]) -> Tables:
    """The tables of a bank and of the flat tensors beside it, one per partition; an empty list is absent."""
    size = codes[0].element_size()
    rows = tuple(
        (
            row.data_ptr(),
            row.stride(0),
            *((scales[p].data_ptr(), scales[p].stride(0)) if scales else (0, 0)),
            *(flat[p].data_ptr() if flat else 0 for flat in flats),
        )
        for p, row in enumerate(codes)
    )
    return cache.get(codes[0].device, size, tuple(row.shape[1] for row in codes), rows)


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _build(device: torch.device, size: int, numels: Row, rows: tuple[Row, ...]) -> Tables:
    if _capturing(device):
        raise RuntimeError(
            "an operation on deltas meets these tensors for the first time while a CUDA graph is captured; "
            "call it once before the capture"
        )
    addresses = [value for row in rows for value in (row[0], row[1] * size, *row[4:])]
    return Tables(
        torch.tensor([[*row, *[0] * (FIELDS - len(row))] for row in rows], device=device),
        chunk_table(numels).to(device),
        all(address % VECTOR == 0 for address in addresses),
    )


def chunk_table(numels: Sequence[int]) -> Tensor:
    """[chunks, 3] int64, as `Tables.chunks`, over partitions of so many elements, in their order."""
    sizes = torch.tensor(numels, dtype=torch.int64)
    counts = (sizes + CHUNK - 1) // CHUNK
    partition = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    first = (torch.arange(len(partition)) - (counts.cumsum(0) - counts)[partition]) * CHUNK
    return torch.stack([partition, first, (sizes[partition] - first).clamp(max=CHUNK)], 1)
