"""Where every parameter lies: layouts over ranks and partitions, and the way from one to another.

A bank saved on R ranks is loaded on another number of ranks, or another ZeRO stage, by a copy plan
between the two layouts. Planning runs in C++ (csrc/ledger.cpp); tables are int64 arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avil_fast import _C

SLICE = ("parameter", "start", "stop", "rank", "partition", "offset")
"""Columns of a table of slices; `parameter` is an index into `Layout.names`."""

Table = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """One place for every element of every parameter: a rank, a partition there, and an offset in it."""

    names: tuple[str, ...]
    """The parameters, in the order of their indices."""
    ledger: _C.Ledger

    @classmethod
    def from_slices(cls, parameters: Mapping[str, int], sizes: Sequence[Sequence[int]], slices: Table) -> Layout:
        """Any layout, as an engine reports it.

        Args:
            parameters: number of elements by name.
            sizes: sizes[rank][partition], elements with padding.
            slices: [slices, 6], the columns of `SLICE`, in any order of rows.

        Raises:
            ValueError: an element lies nowhere or in two places, or a slice is out of its bounds.
        """
        table = np.ascontiguousarray(slices, dtype=np.int64)
        return cls(tuple(parameters), _C.Ledger.from_slices(list(parameters.values()), sizes, table))


def copy_plan(source: Layout, destination: Layout, rank: int | None = None) -> Table:
    """What to copy where, every element once, joined where both sides are contiguous.

    Args:
        source, destination: two layouts of the same parameters, named in the same order.
        rank: only the moves that leave or reach this rank; by default all.

    Returns:
        [moves, 7] in the order of the source's places: rank, partition and offset in the source, the same in the
        destination, and length.

    Raises:
        ValueError: the layouts' parameters differ; the first difference is named.
    """
    for index, (a, b) in enumerate(zip(source.names, destination.names, strict=False)):
        if a != b:
            raise ValueError(f"parameter {index} is {a!r} in the source, but {b!r} in the destination")
    return _C.copy_plan(source.ledger, destination.ledger, -1 if rank is None else rank)
