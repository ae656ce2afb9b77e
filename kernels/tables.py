"""What a launch over many partitions reads on the device: where each one lies, and who takes which part.

Both tables are made at the first call on given tensors and kept, so that later calls copy nothing to the
device and can be captured in a CUDA graph. Those that a capture uses are kept for good: the graph reads them
whenever it is replayed, and nothing tells when it is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

CHUNK = 1 << 15
"""Elements of the parts in which partitions are handed out. A chunk's sums are kept in fp32 until its end."""

FIELDS = 8
"""Columns of `Tables.partitions`: codes, their stride, scales, their stride, and up to four flat tensors."""

VECTOR = 16
"""Bytes of the widest load and store; only addresses that are multiples of it allow them."""

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
    key = codes[0].device, size, tuple(row.shape[1] for row in codes), rows
    made = _captured.get(key) or _made(*key)
    if _capturing(key[0]):
        _captured[key] = made
    return made


_captured: dict[tuple[torch.device, int, Row, tuple[Row, ...]], Tables] = {}


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@lru_cache(maxsize=64)
def _made(device: torch.device, size: int, numels: Row, rows: tuple[Row, ...]) -> Tables:
    if _capturing(device):
        raise RuntimeError(
            "an operation on deltas meets these tensors for the first time while a CUDA graph is captured; "
            "call it once before the capture"
        )
    addresses = [value for row in rows for value in (row[0], row[1] * size, *row[4:])]
    return Tables(
        torch.tensor([[*row, *[0] * (FIELDS - len(row))] for row in rows], device=device),
        torch.as_tensor(_chunks(numels), dtype=torch.int64, device=device).view(-1, 3),
        all(address % VECTOR == 0 for address in addresses),
    )


def _chunks(numels: Row) -> object:
    try:
        from avil_fast._C import chunk_table
    except ImportError:
        return [
            (p, start, min(CHUNK, numel - start))
            for p, numel in enumerate(numels)
            for start in range(0, numel, CHUNK)
        ]
    return chunk_table(numels, CHUNK)
