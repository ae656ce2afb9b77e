"""The folder of a run's checkpoints: each in one of its own that appears at once, when all of it is written."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from avil_fast.checkpoint.manifest import NAME

CHECKPOINTS = "checkpoints"
"""Within a run's folder; a baseline's are in a folder of its name within it."""

PARTIAL = ".partial-"
"""Begins the names of folders that are being written, or removed."""


class Folder:
    """Checkpoints are numbered in the order in which they were made: checkpoint-000001 and so on.

    Args:
        path: need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[Path]:
        """The finished checkpoints, oldest first."""
        return finished(self.path)

    def begin(self) -> Path:
        """An empty folder for the next checkpoint; what an earlier attempt left is removed.

        Raises:
            OSError: it cannot be made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for left in self.path.glob(f"{PARTIAL}*"):
            shutil.rmtree(left)
        # A folder that lost its manifest is no checkpoint, but it has its number.
        number = max((_number(path) for path in self.path.iterdir()), default=0) + 1
        partial = self.path / f"{PARTIAL}checkpoint-{number:06}"
        partial.mkdir()
        return partial

    def finish(self, partial: Path) -> Path:
        """Give a complete folder its name, for good.

        Raises:
            OSError: the disk has gone.
        """
        _sync(partial)
        final = partial.with_name(partial.name.removeprefix(PARTIAL))
        partial.rename(final)
        _sync(self.path)
        return final

    def discard(self, path: Path) -> None:
        """Remove a folder; a checkpoint stops being one first."""
        with contextlib.suppress(OSError):  # what is left is removed by the next `begin`
            if not path.name.startswith(PARTIAL):
                path = path.rename(path.with_name(PARTIAL + path.name))
            shutil.rmtree(path)


def finished(path: Path) -> list[Path]:
    """The finished checkpoints in a folder, oldest first."""
    found = [folder for folder in path.glob("checkpoint-*") if _number(folder) and (folder / NAME).is_file()]
    return sorted(found, key=_number)


def has_any(run: Path) -> bool:
    """Whether a run, or a baseline of it, has a finished checkpoint."""
    checkpoints = run / CHECKPOINTS
    return any(map(finished, (checkpoints, *checkpoints.glob("*"))))


def resolve(path: Path) -> Path | None:
    """The checkpoint that a path names: itself, or the newest of a folder of checkpoints, or of a run's folder."""
    if (path / NAME).is_file():
        return path
    found = finished(path) or finished(path / CHECKPOINTS)
    return found[-1] if found else None


def _number(path: Path) -> int:
    """Of a checkpoint, from 1 on; 0 for any other path."""
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match[1]) if match else 0


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
