"""Copies of the state in CPU memory, from which a checkpoint is written while training goes on."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from avil_fast.checkpoint.writing import Entry


class HostCopies:
    """Memory for a copy of the state, kept for the next one: to get it anew takes longer than to copy."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Tensor]] = {}

    def of(self, entry: Entry) -> Entry:
        """A copy in CPU memory that is good until the next one of this name."""
        kept = self._kept.get(entry.name, [])
        alike = [(a.dtype, a.shape) for a in kept] == [(b.dtype, b.shape) for b in entry.pieces]
        if not alike:
            kept = self._kept[entry.name] = [torch.empty_like(piece, device="cpu") for piece in entry.pieces]
        for copy, piece in zip(kept, entry.pieces, strict=True):
            copy.copy_(piece.detach())
        return Entry(entry.name, kept)

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for kept in self._kept.values() for tensor in kept)


def fits(nbytes: int) -> bool:
    """Whether CPU memory has room for a copy of so many bytes for each rank of this machine, and as much again."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        return True
    return 2 * nbytes * int(os.environ.get("LOCAL_WORLD_SIZE", "1")) < 1024 * kilobytes
