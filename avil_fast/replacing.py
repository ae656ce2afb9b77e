"""A folder that takes another's place, which comes back if that fails."""

from __future__ import annotations

import shutil
from pathlib import Path


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
