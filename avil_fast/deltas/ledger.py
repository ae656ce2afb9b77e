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

MOVE = (
    "source_rank",
    "source_partition",
    "source_offset",
    "destination_rank",
    "destination_partition",
    "destination_offset",
    "length",
)
"""Columns of a copy plan."""

Table = NDArray[np.int64]
Groups = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Layout:
    """One place for every element of every parameter: a rank, a partition there, and an offset in it."""

    names: tuple[str, ...]
    """The parameters, in the order of their indices."""
    ledger: _C.Ledger

    @classmethod
    def flat(
        cls,
        parameters: Mapping[str, int],
        ranks: int,
        groups: Groups | None = None,
        alignment: int = 1,
    ) -> Layout:
        """ZeRO 1 and 2: a group's parameters end to end, padded, split evenly over the ranks.

        Args:
            parameters: number of elements by name.
            ranks: how many ranks.
            groups: the names in each partition, in their order there; by default all in one.
            alignment: every rank's share is a multiple of it.

        Raises:
            ValueError: a parameter is in no group or in two, or a number is not positive.
        """
        names = tuple(parameters)
        indices = _indices(names, groups)
        return cls(names, _C.Ledger.flat(list(parameters.values()), indices, ranks, alignment))

    @classmethod
    def sharded(cls, parameters: Mapping[str, int], ranks: int, groups: Groups | None = None) -> Layout:
        """ZeRO 3: every parameter padded and split evenly over the ranks, a group's shares end to end.

        Arguments and errors are those of `flat`.
        """
        names = tuple(parameters)
        return cls(names, _C.Ledger.sharded(list(parameters.values()), _indices(names, groups), ranks))

    @classmethod
    def local(cls, parameters: Mapping[str, int], groups: Groups | None = None) -> Layout:
        """A single process: a group's parameters end to end. Arguments and errors are those of `flat`."""
        return cls.flat(parameters, 1, groups)

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

    @property
    def sizes(self) -> list[list[int]]:
        """sizes[rank][partition]: elements with padding."""
        return self.ledger.sizes

    def slices(self, rank: int | None = None) -> Table:
        """[slices, 6], the columns of `SLICE`, of one rank or of all, in the order of parameters."""
        return self.ledger.slices(-1 if rank is None else rank)


def copy_plan(source: Layout, destination: Layout, rank: int | None = None) -> Table:
    """What to copy where, every element once, joined where both sides are contiguous.

    Args:
        source, destination: two layouts of the same parameters, named in the same order.
        rank: only the moves that leave or reach this rank; by default all.

    Returns:
        [moves, 7], the columns of `MOVE`, in the order of the source's places.

    Raises:
        ValueError: the layouts' parameters differ; the first difference is named.
    """
    for index, (a, b) in enumerate(zip(source.names, destination.names, strict=False)):
        if a != b:
            raise ValueError(f"parameter {index} is {a!r} in the source, but {b!r} in the destination")
    return _C.copy_plan(source.ledger, destination.ledger, -1 if rank is None else rank)


def _indices(names: tuple[str, ...], groups: Groups | None) -> list[list[int]]:
    if groups is None:
        return [list(range(len(names)))]
    index = {name: i for i, name in enumerate(names)}
    for group in groups:
        for name in group:
            if name not in index:
                raise ValueError(f"a group names {name!r}, which is not among the parameters")
    return [[index[name] for name in group] for group in groups]
