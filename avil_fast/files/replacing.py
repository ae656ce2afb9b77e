"""Files and folders that take another's place whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file that is either there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def replace_folder(place: Path, by: Path) -> None:
    """Rename a folder to `place`, and remove what lay there.

    Raises:
        OSError: it could not be done; what lay there is there again.
    """
    before = place.with_name(f"{place.name}.previous")
    if not place.exists():
        by.rename(place)
        return
    if before.exists():
        raise FileExistsError(17, f"{before.name!r} is in the way beside it")
    place.rename(before)
    try:
        by.rename(place)
    except OSError:
        before.rename(place)
        raise
    shutil.rmtree(before, ignore_errors=True)
