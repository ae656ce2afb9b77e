"""Which checkpoints of a run are kept."""

from __future__ import annotations

from pathlib import Path

from avil_fast.checkpoint.file_format import Damaged
from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.manifest import Manifest


class Retention:
    """Keeps the newest checkpoints of a folder, and the newest lasting one.

    Args:
        folder: of the run's checkpoints.
        keep: how many of the newest.
    """

    def __init__(self, folder: Folder, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._lasting: dict[str, bool] = {}
        """What is known of checkpoints by name, so that no manifest is read at every save."""

    def made(self, path: Path, lasting: bool) -> None:
        """A checkpoint was made; remove those that are not to be kept beside it."""
        self._lasting[path.name] = lasting
        newest_first = self._folder.all()[::-1]
        seen = False
        for number, old in enumerate(newest_first):
            kept = number < self._keep
            if not seen and (seen := self._is_lasting(old)):
                kept = True
            if not kept:
                self._folder.discard(old)

    def _is_lasting(self, path: Path) -> bool:
        if path.name not in self._lasting:
            try:
                self._lasting[path.name] = Manifest.read(path).lasting
            except Damaged:
                self._lasting[path.name] = False
        return self._lasting[path.name]
