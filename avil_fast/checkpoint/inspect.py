"""What a checkpoint is: the run, where it stands, what takes how many bytes, and whether all of it is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avil_fast.checkpoint.file_format import Damaged
from avil_fast.checkpoint.folder import CHECKPOINTS, resolve
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.reading import Reader
from avil_fast.errors import AvilError

PARTS = {
    "theta": "θ",
    "trained": "the task that trains",
    "delta": "deltas",
    "moment": "optimizer",
    "best": "best model",
    "start": "the run's start",
}
"""By what the names of its tensors begin with."""

OTHER = "buffers, random numbers, places"


@dataclass(frozen=True)
class Inspection:
    """What was found."""

    manifest: Manifest
    parts: dict[str, int]
    """Bytes of all ranks by part; without those of files that are damaged."""
    damage: list[str]
    """A sentence for each file that is not what was written; of unread blocks only if they were checked."""

    @property
    def nbytes(self) -> int:
        """Of all files, as they were written."""
        return sum(record.nbytes for record in self.manifest.files.values())

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        manifest = self.manifest
        return {
            "saved": manifest.saved,
            "version": manifest.version,
            "where": manifest.where,
            "engine": manifest.engine,
            "ranks": manifest.ranks,
            "config": manifest.config,
            "tasks": manifest.tasks,
            "parameters": manifest.parameters,
            "bytes": self.nbytes,
            "bytes_by_part": self.parts,
            "damage": self.damage,
        }


def find(path: Path) -> Path:
    """The checkpoint that a path names: its own folder, or the newest one of a run or of a folder of checkpoints.

    A run that was stopped in its baselines may have none of its own: then it is the newest one of a baseline.

    Raises:
        AvilError: there is none.
    """
    of_baselines = sorted((path / CHECKPOINTS).glob("*"))
    for folder in (path, *of_baselines):
        if found := resolve(folder):
            return found
    raise AvilError(
        f"{str(path)!r} is no checkpoint and holds none; name a folder such as "
        f"runs/digits/checkpoints/checkpoint-000001"
    )


def inspect(path: Path, check: bool = True) -> Inspection:
    """Look into a checkpoint.

    Args:
        path: its folder.
        check: read all of it and compare the checksums; otherwise only headers and sizes.

    Raises:
        Damaged: there is no telling what it is.
    """
    manifest = Manifest.read(path)
    parts: dict[str, int] = defaultdict(int)
    damage = []
    for name, record in manifest.files.items():
        try:
            file = Reader(path / name, record)
            for part, nbytes in _parts(file):
                parts[part] += nbytes
            if check:
                file.check_all()
        except Damaged as error:
            damage.append(str(error))
    return Inspection(manifest, dict(parts), damage)


def _parts(file: Reader) -> Iterator[tuple[str, int]]:
    for name in file.names():
        yield PARTS.get(name.split(".")[0].split("/")[0], OTHER), file.nbytes(name)
