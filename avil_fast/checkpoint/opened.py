"""A checkpoint that is opened for reading: its files, and which blocks of them have been checked."""

from __future__ import annotations

import itertools
from collections import defaultdict
from operator import itemgetter
from pathlib import Path

import torch

from avil_fast.checkpoint import file_format
from avil_fast.checkpoint.file_format import Damaged
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.reading import Reader
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.state import SLICE, Placement


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
            for block in range(-(-record.nbytes // file_format.CHECKSUM_BLOCK))
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
