"""Fill an engine from a checkpoint, whatever ranks and ZeRO stage it was saved on."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avil_fast.checkpoint.files import BLOCK, Damaged, Reader
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.deltas.base import Stored
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.state import SLICE, Loaded, Placement, Snapshot
from avil_fast.errors import AvilError
from avil_fast.ops.encoding import BLOCK as SCALED
from avil_fast.ops.encoding import CHUNK, blocks, decode, encode_

RANK = 3
"""The column that the ledger's tables of slices (deltas/ledger.py) have beside those of a `Placement`."""


def load(engine: Engine, ranks: Ranks, folder: Path, manifest: Manifest) -> Snapshot | None:
    """Put the engine where the checkpoint has it; the best model of that run so far. All ranks take part.

    Raises:
        Damaged: a file is not what was written. The engine may be filled again.
    """
    files = Files(folder, manifest)
    if manifest.buffers != engine.buffers():
        raise AvilError(
            f"{str(folder)!r} was made with a model of other buffers; give the model that it was made with"
        )
    frozen = engine.frozen()
    if None not in (frozen, manifest.frozen) and frozen != manifest.frozen:
        raise AvilError(
            f"{str(folder)!r} was made with other frozen parameters than the model has; give the model that it "
            f"was made with"
        )
    state = engine.prepare(manifest.facts)
    best = engine.snapshot() if manifest.run["best"] else None
    place = engine.placement()
    here = [Placement(place.parameters, *of_rank) for of_rank in ranks.gather((place.sizes, place.slices))]

    def fill() -> Loaded:
        plan = make_plan(files.placements(), here, ranks.rank)
        for kind, stored in state.sharded.items():
            _fill(kind, stored, plan, files.of_rank)
        if best is not None:
            masters = [Stored(k, master) for k, master in enumerate(best.masters)]
            _fill("best", masters, plan, files.best_of_rank)
            for i, buffer in enumerate(best.buffers):
                buffer.copy_(files.best_of_rank(0).tensor(f"common/{i}"))
        own = _under("own/", files.own(ranks.rank)) if ranks.rank < manifest.ranks else None
        as_many = ranks.size == manifest.ranks
        all_own = [] if as_many else [_under("own/", files.own(rank)) for rank in range(manifest.ranks)]
        return Loaded(_under("common/", files.own(0)), own, all_own)

    loaded = ranks.on_all(fill, Damaged)
    ranks.on_all(lambda: files.check_rest(ranks), Damaged)
    engine.adopt(loaded)
    return best


class Files:
    """The files of a checkpoint, opened as they are needed."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder, self._manifest = folder, manifest
        self._open: dict[str, Reader] = {}
        self.seen: dict[str, set[int]] = defaultdict(set)
        """The blocks that were read, by file."""

    def of_rank(self, rank: int) -> Reader:
        """What a rank held."""
        return self.open(f"rank-{rank:05}.safetensors")

    def best_of_rank(self, rank: int) -> Reader:
        """A rank's part of the best model."""
        return self.open(f"best-{rank:05}.safetensors")

    def own(self, rank: int) -> Reader:
        """A rank's small tensors; not kept open, as there may be thousands."""
        return self._reader(f"own-{rank:05}.safetensors")

    def placements(self) -> list[Placement]:
        """Where every rank had its elements."""
        return [self._placement(self.own(rank)) for rank in range(self._manifest.ranks)]

    def _placement(self, file: Reader) -> Placement:
        sizes, slices = file.tensor("sizes"), file.tensor("slices")
        if (
            sizes.dtype != torch.int64
            or slices.dtype != torch.int64
            or sizes.dim() != 1
            or slices.shape[1:] != (len(SLICE),)
        ):
            raise Damaged(f"{str(file.path)!r} is damaged: there is no telling where a rank had its elements")
        return Placement(self._manifest.parameters, sizes.tolist(), slices.clone())

    def open(self, name: str) -> Reader:
        if name not in self._open:
            self._open[name] = self._reader(name)
        return self._open[name]

    def check_rest(self, ranks: Ranks) -> None:
        """Check the blocks that no rank had to read, so that no damage passes."""
        seen: set[tuple[str, int]] = set()
        for of_rank in ranks.gather({(name, block) for name, some in self.seen.items() for block in some}):
            seen |= of_rank
        rest = [
            (name, block)
            for name, record in self._manifest.files.items()
            for block in range(-(-record.nbytes // BLOCK))
            if (name, block) not in seen
        ]
        for name, of_file in itertools.groupby(rest[ranks.rank :: ranks.size], itemgetter(0)):
            file = self._reader(name)
            for _, block in of_file:
                file.check(block)

    def _reader(self, name: str) -> Reader:
        try:
            record = self._manifest.files[name]
        except KeyError:
            raise Damaged(f"{str(self._folder)!r} is no whole checkpoint: it has no {name}") from None
        return Reader(self._folder / name, record, self.seen[name])


@dataclass(frozen=True)
class Move:
    """Elements to read and where they go."""

    rank: int
    """That saved them."""
    partition: int
    """There."""
    offset: int
    """In it."""
    to: int
    """Offset in the partition here."""
    length: int


@dataclass(frozen=True)
class Plan:
    """What a rank reads, by its own partition."""

    moves: Mapping[int, Sequence[Move]]
    same: bool
    """Every rank finds all its partitions as it saved them."""


def make_plan(saved: Sequence[Placement], here: Sequence[Placement], rank: int) -> Plan:
    """The way from the ranks that saved to a rank of those that are here.

    Raises:
        AvilError: the models' parameters differ.
    """
    _require_same_parameters(saved[0].parameters, here[0].parameters)
    if len(saved) == len(here) and all(
        a.same_as(b) for a, b in zip(saved, here, strict=True)
    ):  # padding, too, is read from where it was
        sizes = enumerate(here[rank].sizes)
        return Plan({k: [Move(rank, k, 0, 0, size)] for k, size in sizes}, same=True)
    try:
        from avil_fast.deltas.ledger import Layout, copy_plan
    except ImportError as error:
        raise AvilError(
            "to resume on other ranks or another ZeRO stage takes the compiled extension; install avil_fast "
            "with a C++ compiler present"
        ) from error

    def layout(placements: Sequence[Placement]) -> Layout:
        parameters = {name: int(np.prod(shape)) for name, shape in placements[0].parameters.items()}
        rows = [np.insert(p.slices.numpy(), RANK, of_rank, axis=1) for of_rank, p in enumerate(placements)]
        return Layout.from_slices(parameters, [p.sizes for p in placements], np.concatenate(rows))

    moves: dict[int, list[Move]] = defaultdict(list)
    for from_rank, partition, offset, to_rank, k, to, length in copy_plan(
        layout(saved), layout(here), rank
    ).tolist():
        if to_rank == rank:
            moves[k].append(Move(from_rank, partition, offset, to, length))
    return Plan(moves, same=False)


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


def _fill(kind: str, stored: Sequence[Stored], plan: Plan, file_of: Callable[[int], Reader]) -> None:
    """Read what this rank holds of one kind of tensor."""
    for piece in stored:
        if piece.scales is None:
            for move, to in _cut(plan.moves.get(piece.partition, ()), piece):
                name = f"{kind}.{move.partition}"
                values = file_of(move.rank).elements(name, move.offset, move.offset + move.length)
                if values.dtype != piece.values.dtype:
                    raise AvilError(
                        f"the checkpoint's {name} is {values.dtype}, but the model needs {piece.values.dtype}; "
                        f"give the model that it was made with"
                    )
                piece.values[to].copy_(values)
        elif plan.same:
            ((move, _),) = _cut(plan.moves[piece.partition], piece)
            file, name = file_of(move.rank), f"{kind}.{move.partition}"
            first = move.offset // SCALED
            piece.values.copy_(file.elements(name, move.offset, move.offset + move.length))
            piece.scales.copy_(file.elements(f"{name}.scales", first, first + piece.scales.numel()))
        else:  # other elements share a scale now: what was decoded is encoded again
            delta = torch.zeros(piece.values.numel())
            for move, to in _cut(plan.moves.get(piece.partition, ()), piece):
                delta[to] = _decoded(file_of(move.rank), f"{kind}.{move.partition}", move.offset, move.length)
            codes, scales = (torch.empty_like(t, device="cpu") for t in (piece.values, piece.scales))
            for start in range(0, len(delta), CHUNK):
                encode_(codes, scales, start, delta[start : start + CHUNK])
            piece.values.copy_(codes)
            piece.scales.copy_(scales)


def _cut(moves: Sequence[Move], piece: Stored) -> Iterator[tuple[Move, slice]]:
    """The moves' parts that reach a piece of a partition, and where in it."""
    for move in moves:
        first = max(move.to, piece.start)
        stop = min(move.to + move.length, piece.start + piece.values.numel())
        if first < stop:
            part = replace(move, offset=move.offset + first - move.to, to=first, length=stop - first)
            yield part, slice(first - piece.start, stop - piece.start)


def _decoded(file: Reader, name: str, start: int, length: int) -> Tensor:
    """Elements of a delta that was saved in codes with scales."""
    first = start // SCALED * SCALED
    codes = file.elements(name, first, start + length)
    scale = first // SCALED
    scales = file.elements(f"{name}.scales", scale, scale + blocks(len(codes)))
    return decode(codes, scales, 0, len(codes), torch.float32)[start - first :]


def _under(prefix: str, file: Reader) -> dict[str, Tensor]:
    """A file's tensors whose names begin so, without that; copies, as the file is closed some time."""
    names = [name for name in file.names() if name.startswith(prefix)]
    return {name.removeprefix(prefix): file.tensor(name).clone() for name in names}
