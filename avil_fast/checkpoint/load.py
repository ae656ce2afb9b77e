"""Fill an engine from a checkpoint, whatever ranks and ZeRO stage it was saved on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from avil_fast.checkpoint.file_format import Damaged
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.opened import Files
from avil_fast.checkpoint.plan import ReadPlan, plan_reads
from avil_fast.checkpoint.reading import Reader
from avil_fast.deltas.base import Stored
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.state import Loaded, Placement, Snapshot
from avil_fast.errors import AvilError
from avil_fast.ops.encoding import BLOCK, CHUNK, blocks, decode, encode_


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
        plan = plan_reads(files.placements(), here, ranks.rank)
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


def _fill(kind: str, stored: Sequence[Stored], plan: ReadPlan, file_of: Callable[[int], Reader]) -> None:
    """Read what this rank holds of one kind of tensor."""
    for piece in stored:
        if piece.scales is None:
            for move, to in plan.moves_into(piece):
                name = f"{kind}.{move.partition}"
                values = file_of(move.rank).elements(name, move.offset, move.offset + move.length)
                if values.dtype != piece.values.dtype:
                    raise AvilError(
                        f"the checkpoint's {name} is {values.dtype}, but the model needs {piece.values.dtype}; "
                        f"give the model that it was made with"
                    )
                piece.values[to].copy_(values)
        elif plan.same:
            for move, _ in plan.moves_into(piece):  # one, but for a piece without elements
                file, name = file_of(move.rank), f"{kind}.{move.partition}"
                first = move.offset // BLOCK
                piece.values.copy_(file.elements(name, move.offset, move.offset + move.length))
                piece.scales.copy_(file.elements(f"{name}.scales", first, first + piece.scales.numel()))
        else:  # other elements share a scale now: what was decoded is encoded again
            delta = torch.zeros(piece.values.numel())
            for move, to in plan.moves_into(piece):
                delta[to] = _decoded(file_of(move.rank), f"{kind}.{move.partition}", move.offset, move.length)
            codes, scales = (torch.empty_like(t, device="cpu") for t in (piece.values, piece.scales))
            for start in range(0, len(delta), CHUNK):
                encode_(codes, scales, start, delta[start : start + CHUNK])
            piece.values.copy_(codes)
            piece.scales.copy_(scales)


def _decoded(file: Reader, name: str, start: int, length: int) -> Tensor:
    """Elements of a delta that was saved in codes with scales."""
    first = start // BLOCK * BLOCK
    codes = file.elements(name, first, start + length)
    scale = first // BLOCK
    scales = file.elements(f"{name}.scales", scale, scale + blocks(len(codes)))
    return decode(codes, scales, 0, len(codes), torch.float32)[start - first :]


def _under(prefix: str, file: Reader) -> dict[str, Tensor]:
    """A file's tensors whose names begin so, without that; copies, as the file is closed some time."""
    names = [name for name in file.names() if name.startswith(prefix)]
    return {name.removeprefix(prefix): file.tensor(name).clone() for name in names}
