"""What a rank reads from the files of those that saved, and where it goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from avil_fast.deltas.base import Stored
from avil_fast.engine.state import Placement
from avil_fast.errors import AvilError


@dataclass(frozen=True)
class Move:
    """Elements to read and where they go."""

    rank: int
    """Rank that saved the elements."""
    partition: int
    """Partition on that rank."""
    offset: int
    """Offset in that partition, in elements."""
    to: int
    """Offset in the partition that is filled, in elements."""
    length: int


@dataclass(frozen=True)
class ReadPlan:
    """What a rank reads, by its own partition."""

    moves: Mapping[int, Sequence[Move]]
    same: bool
    """Every rank finds all its partitions as it saved them."""

    def moves_into(self, piece: Stored) -> Iterator[tuple[Move, slice]]:
        """The parts of moves that reach a piece of a partition, and which of its elements each fills."""
        for move in self.moves.get(piece.partition, ()):
            first = max(move.to, piece.start)
            stop = min(move.to + move.length, piece.start + piece.values.numel())
            if first < stop:
                part = replace(move, offset=move.offset + first - move.to, to=first, length=stop - first)
                yield part, slice(first - piece.start, stop - piece.start)


def plan_reads(saved: Sequence[Placement], here: Sequence[Placement], rank: int) -> ReadPlan:
    """The way from the ranks that saved to a rank of those that are here.

    Raises:
        AvilError: the models' parameters differ.
    """
    _require_same_parameters(saved[0].parameters, here[0].parameters)
    if len(saved) == len(here) and all(
        a.same_as(b) for a, b in zip(saved, here, strict=True)
    ):  # padding, too, is read from where it was
        sizes = enumerate(here[rank].sizes)
        return ReadPlan({k: [Move(rank, k, 0, 0, size)] for k, size in sizes}, same=True)
    try:
        from avil_fast.deltas.ledger import SLICE, Layout, copy_plan
    except ImportError as error:
        raise AvilError(
            "to resume on other ranks or another ZeRO stage takes the compiled extension; install avil_fast "
            "with a C++ compiler present"
        ) from error

    def layout(placements: Sequence[Placement]) -> Layout:
        parameters = {name: int(np.prod(shape)) for name, shape in placements[0].parameters.items()}
        rows = [
            np.insert(p.slices.numpy(), SLICE.index("rank"), of_rank, axis=1)
            for of_rank, p in enumerate(placements)
        ]
        return Layout.from_slices(parameters, [p.sizes for p in placements], np.concatenate(rows))

    moves: dict[int, list[Move]] = defaultdict(list)
    for from_rank, partition, offset, to_rank, k, to, length in copy_plan(
        layout(saved), layout(here), rank
    ).tolist():
        if to_rank == rank:
            moves[k].append(Move(from_rank, partition, offset, to, length))
    return ReadPlan(moves, same=False)


def _require_same_parameters(saved: Mapping[str, list[int]], here: Mapping[str, list[int]]) -> None:
    if [*saved] != [*here] and sorted(saved) == sorted(here):
        name = next(name for name, other in zip(saved, here, strict=True) if name != other)
        raise AvilError(
            f"the checkpoint is of another model: its parameters come in another order, from {name!r} on; give "
            f"the model that it was made with"
        )
    for name in [*saved, *here]:
        if saved.get(name) != here.get(name):
            shapes = [f"{tuple(found[name])}" if name in found else "absent" for found in (saved, here)]
            raise AvilError(
                f"the checkpoint is of another model: parameter {name!r} is {shapes[0]} there and {shapes[1]} "
                f"here; give the model that it was made with"
            )
