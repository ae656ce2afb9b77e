"""What lies in a comparison's folder already: runs that are finished, or known to diverge, or somebody else's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avil_fast.checkpoint.resume import setting_differences
from avil_fast.config import TrainConfig
from avil_fast.errors import AvilError
from avil_fast.files.replacing import write_whole
from avil_fast.report.place import CONFIG, DIVERGED, SUMMARY
from avil_fast.report.run import read


def require_place(to: Path) -> None:
    """Refuse a folder that a comparison may not write into: a run's own would lose its report."""
    if to.exists() and not to.is_dir():
        raise AvilError(f"--to is {str(to)!r}, which is a file; name a folder")
    if (to / CONFIG).is_file():
        raise AvilError(f"--to is {str(to)!r}, which is a run's folder; name another")


def is_done(folder: Path, config: TrainConfig) -> bool:
    """Whether the folder holds this very run, finished.

    Raises:
        AvilError: it holds one with other settings.
    """
    if not (folder / SUMMARY).is_file():
        return False
    _require_same(folder, "a finished run", read(folder).settings, config)
    return True


def how_it_diverged(folder: Path, config: TrainConfig) -> str | None:
    """What was told when this very run diverged; None if it did not.

    Raises:
        AvilError: one with other settings did.
    """
    path = folder / DIVERGED
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        sentence, settings = str(noted["told"]), dict(noted["settings"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AvilError(f"{str(path)!r} is damaged; remove it, and the run is trained again") from error
    _require_same(folder, "a run that diverged", settings, config)
    return sentence


def note_divergence(folder: Path, config: TrainConfig, sentence: str) -> None:
    """Have `how_it_diverged` tell it."""
    folder.mkdir(parents=True, exist_ok=True)  # the run took its own away, if it had saved nothing in it
    noted = {"told": sentence, "settings": config.model_dump(mode="json")}
    write_whole(folder / DIVERGED, json.dumps(noted, indent=1, ensure_ascii=False) + "\n")


def _require_same(folder: Path, what: str, settings: Mapping[str, Any], config: TrainConfig) -> None:
    if unlike := list(setting_differences(settings, config.model_dump(mode="json")).values()):
        raise AvilError(
            f"{str(folder)!r} holds {what}, but {unlike[0]}; name another folder with --to, or remove it"
        )
