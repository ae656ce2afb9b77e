"""From the files of some ranks into the partitions of others: what is read, and how much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avil_fast.checkpoint import file_format, load
from avil_fast.checkpoint.file_format import Record
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.opened import Files
from avil_fast.checkpoint.plan import plan_reads
from avil_fast.checkpoint.writing import Entry, write
from avil_fast.deltas.base import Stored
from avil_fast.deltas.codec import CODECS
from avil_fast.engine.ranks import ALONE
from avil_fast.engine.state import Placement, as_table
from avil_fast.ops.encoding import decode, encode_
from tests.deltas.layouts import Slices, flat, local, sharded

SHAPES = {"embedding": [70, 12], "weight": [40, 30], "bias": [30], "gain": [1], "head": [30, 5]}
SIZES = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
GROUPS = [["embedding", "weight", "bias", "gain"], ["head"]]
BLOCK = 512

LAYOUTS = {
    "local": local(SIZES, GROUPS),
    "flat-2": flat(SIZES, 2, GROUPS, alignment=64),
    "flat-3": flat(SIZES, 3, GROUPS, alignment=64),
    "sharded-2": sharded(SIZES, 2, GROUPS),
    "sharded-4": sharded(SIZES, 4, GROUPS),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_format, "CHECKSUM_BLOCK", BLOCK)


def placements(layout: Slices) -> list[Placement]:
    return [
        Placement(SHAPES, sizes, torch.from_numpy(np.delete(layout.of_rank(rank), 3, axis=1)))
        for rank, sizes in enumerate(layout.sizes)
    ]


def laid_out(values: dict[str, Tensor], placement: Placement, partition: int) -> Tensor:
    """A partition that holds these parameters; NaN where it is padded."""
    flat = torch.full((placement.sizes[partition],), float("nan"))
    for parameter, start, stop, k, offset in placement.slices.tolist():
        if k == partition:
            flat[offset : offset + stop - start] = list(values.values())[parameter].flatten()[start:stop]
    return flat


def made() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def saved(folder: Path, source: list[Placement], codec: str = "fp32") -> Files:
    """A checkpoint of θ, or of a delta in a codec."""
    records: dict[str, Record] = {}
    for rank, placement in enumerate(source):
        own = [Entry("slices", [placement.slices]), Entry("sizes", [torch.tensor(placement.sizes)])]
        records[f"own-{rank:05}.safetensors"] = write(folder / f"own-{rank:05}.safetensors", own)
        entries = []
        for k in range(len(placement.sizes)):
            flat = laid_out(made(), placement, k)
            if codec == "fp32":
                entries.append(Entry(f"theta.{k}", [flat]))
            else:
                codes, scales = encoded(flat.nan_to_num(), codec)
                entries += [Entry(f"theta.{k}", [codes]), Entry(f"theta.{k}.scales", [scales])]
        name = f"rank-{rank:05}.safetensors"
        records[name] = write(folder / name, entries)
    empty: dict[str, dict[str, Any]] = {key: {} for key in ("config", "facts", "run", "extra", "where")}
    manifest = Manifest(
        version="",
        saved="",
        lasting=False,
        ranks=len(source),
        buffers=[],
        frozen=None,
        engine="",
        tasks=[],
        parameters=SHAPES,
        files=records,
        **empty,
    )
    return Files(folder, manifest)


def encoded(flat: Tensor, codec: str) -> tuple[Tensor, Tensor]:
    codes, scales = CODECS[codec].allocate(1, len(flat), torch.device("cpu"))
    assert scales is not None
    encode_(codes[0], scales[0], 0, flat)
    return codes[0], scales[0]


@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("source", LAYOUTS)
def test_every_rank_gets_its_elements_and_reads_little_more(source: str, to: str, tmp_path: Path) -> None:
    here, files = placements(LAYOUTS[to]), saved(tmp_path, placements(LAYOUTS[source]))
    for rank, placement in enumerate(here):
        opened = Files(tmp_path, files._manifest)
        plan = plan_reads(opened.placements(), here, rank)
        small = BLOCK * sum(map(len, opened.seen.values()))
        stored = [Stored(k, torch.zeros(size)) for k, size in enumerate(placement.sizes)]
        load._fill("theta", stored, plan, opened.of_rank)
        for piece in stored:
            expected = laid_out(made(), placement, piece.partition)
            inside = expected.isfinite()
            assert torch.equal(piece.values[inside], expected[inside])
        read = BLOCK * sum(map(len, opened.seen.values()))
        moves = sum(map(len, plan.moves.values()))
        assert read <= small + 4 * sum(placement.sizes) + 2 * BLOCK * moves
        assert small <= sum(path.stat().st_size + BLOCK for path in tmp_path.glob("own-*"))


@pytest.mark.parametrize("codec", ["int8", "fp8"])
@pytest.mark.parametrize("to", ["local", "flat-2", "sharded-4"])
def test_codes_with_scales_are_kept_or_encoded_again(codec: str, to: str, tmp_path: Path) -> None:
    source, here = placements(LAYOUTS["flat-2"]), placements(LAYOUTS[to])
    files = saved(tmp_path, source, codec)
    for rank, placement in enumerate(here):
        plan = plan_reads(files.placements(), here, rank)
        for k, size in enumerate(placement.sizes):
            codes, scales = encoded(torch.ones(size), codec)
            load._fill("theta", [Stored(k, codes, scales)], plan, files.of_rank)
            expected = laid_out(made(), placement, k)
            inside = expected.isfinite()
            ours = decode(codes, scales, 0, size, torch.float32)
            tolerance = 2 * (1 / 254 if codec == "int8" else 1 / 16) * 4  # of elements up to 4, rounded twice
            assert (ours - expected)[inside].abs().max() <= tolerance
            if to == "flat-2":
                once = encoded(expected.nan_to_num(), codec)
                assert torch.equal(codes.view(torch.uint8), once[0].view(torch.uint8))
                assert torch.equal(scales, once[1])


def test_a_partition_without_elements_has_nothing_to_read(tmp_path: Path) -> None:
    """Of a head, or a layer, all of whose parameters are empty."""
    codes, scales = CODECS["int8"].allocate(1, 0, torch.device("cpu"))
    assert scales is not None
    empty = Placement(SHAPES, [0], as_table([]))
    plan = plan_reads([empty], [empty], 0)
    load._fill("delta/0", [Stored(0, codes[0], scales[0])], plan, saved(tmp_path, []).of_rank)


def test_blocks_that_no_rank_needs_are_checked_too(tmp_path: Path) -> None:
    files = saved(tmp_path, placements(LAYOUTS["flat-2"]))
    files.check_rest(ALONE)
    content = bytearray((tmp_path / "rank-00001.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "rank-00001.safetensors").write_bytes(content)
    again = Files(tmp_path, files._manifest)
    again.of_rank(0).tensor("theta.0")
    with pytest.raises(file_format.Damaged, match="rank-00001"):
        again.check_rest(ALONE)
