"""Layouts of engines, as tables of slices: what tests and a benchmark of copy plans go from and to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avil_fast.deltas.ledger import Layout

Table = NDArray[np.int64]
Groups = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Slices:
    """What an engine would report: where each rank's partitions have which elements of which parameters."""

    parameters: Mapping[str, int]
    """Number of elements by name."""
    sizes: list[list[int]]
    """sizes[rank][partition]: elements with padding."""
    rows: Table
    """[slices, 6], the columns of `SLICE`, in the order of parameters."""

    def layout(self) -> Layout:
        return Layout.from_slices(self.parameters, self.sizes, self.rows)

    def of_rank(self, rank: int) -> Table:
        return self.rows[self.rows[:, 3] == rank]

    def in_order(self, order: Sequence[int]) -> Slices:
        """The same slices in another order of rows."""
        return replace(self, rows=self.rows[list(order)])


def flat(parameters: Mapping[str, int], ranks: int, groups: Groups | None = None, alignment: int = 1) -> Slices:
    """ZeRO 1 and 2: a group's parameters end to end, padded, split evenly over the ranks.

    Args:
        parameters: number of elements by name.
        ranks: how many ranks.
        groups: the names in each partition, in their order there; by default all in one.
        alignment: every rank's share is a multiple of it.
    """
    rows, shares = [], []
    for partition, (indices, numels) in enumerate(_by_group(parameters, groups)):
        total = int(numels.sum())
        share = -(-total // (ranks * alignment)) * alignment
        shares.append(share)
        starts = numels.cumsum() - numels
        cuts = np.unique(np.concatenate([starts, share * np.arange(ranks + 1), [total]]))
        first, stop = cuts[cuts < total], cuts[1 : (cuts < total).sum() + 1]
        which = np.searchsorted(starts, first, side="right") - 1  # the last of those that begin there has elements
        rank = first // max(share, 1)
        begin = starts[which]
        rows.append(_rows(indices[which], first - begin, stop - begin, rank, partition, first - rank * share))
    return _slices(parameters, [shares] * ranks, rows)


def sharded(parameters: Mapping[str, int], ranks: int, groups: Groups | None = None) -> Slices:
    """ZeRO 3: every parameter padded and split evenly over the ranks, a group's shares end to end.

    Arguments are those of `flat`.
    """
    rows, sizes = [], []
    for partition, (indices, numels) in enumerate(_by_group(parameters, groups)):
        share = -(-numels // ranks)
        sizes.append(int(share.sum()))
        rank = np.tile(np.arange(ranks), len(numels))
        index, numel, own, offset = (np.repeat(x, ranks) for x in (indices, numels, share, share.cumsum() - share))
        start = rank * own
        made = _rows(index, start, np.minimum(start + own, numel), rank, partition, offset)
        rows.append(made[start < numel])
    return _slices(parameters, [sizes] * ranks, rows)


def local(parameters: Mapping[str, int], groups: Groups | None = None) -> Slices:
    """A single process: a group's parameters end to end. Arguments are those of `flat`."""
    return flat(parameters, 1, groups)


def _by_group(parameters: Mapping[str, int], groups: Groups | None) -> list[tuple[Table, Table]]:
    """Indices and numbers of elements of each group's parameters."""
    names = list(parameters)
    numels = np.array(list(parameters.values()), dtype=np.int64)
    index = {name: i for i, name in enumerate(names)}
    indices = [np.array([index[name] for name in group], dtype=np.int64) for group in groups or [names]]
    return [(own, numels[own]) for own in indices]


def _rows(
    parameter: Table,
    start: Table,
    stop: Table,
    rank: Table,
    partition: int,
    offset: Table,
) -> Table:
    return np.stack([parameter, start, stop, rank, np.full_like(parameter, partition), offset], axis=1)


def _slices(parameters: Mapping[str, int], sizes: list[list[int]], rows: list[Table]) -> Slices:
    table = np.concatenate(rows)
    return Slices(parameters, sizes, table[np.lexsort((table[:, 1], table[:, 0]))])
