"""Where a run writes, and which checkpoints it may go on from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.resume import Resume, candidates, first_manifest
from avil_fast.config import TrainConfig, dump
from avil_fast.engine.ranks import Ranks
from avil_fast.report.folder import CHECKPOINTS, RunFolder


@dataclass
class Home:
    """Of one run, or of one of its baselines."""

    folder: RunFolder | None = None
    """The run's folder; None if nothing is to be written, and on all ranks but the first."""
    checkpoints: Folder | None = None
    resume: Resume = None
    found: list[Path] = field(default_factory=list)
    """Checkpoints to go on from, the best first."""
    baselines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Summaries of those that were run before."""

    def of_baseline(self, name: str, ranks: Ranks) -> Home:
        """Where a baseline saves itself, until the run that it belongs to has begun."""
        if self.checkpoints is None:
            return Home()
        folder = Folder(self.checkpoints.path / name)
        return Home(None, folder, "auto", ranks.on_first(lambda: candidates("auto", folder)))

    def forget_baselines(self) -> None:
        """Remove what baselines saved: their results are in the run's own checkpoints."""
        if self.checkpoints is not None:
            for path in self.checkpoints.path.glob("*"):
                if path.is_dir() and "checkpoint-" not in path.name:
                    shutil.rmtree(path, ignore_errors=True)


def require_free(config: TrainConfig, resume: Resume) -> None:
    """Refuse an output_dir that the run may not write into."""
    if config.output_dir is not None:
        RunFolder(config.output_dir, config.overwrite, _in_place(config.output_dir, resume))


@contextmanager
def opened(config: TrainConfig, ranks: Ranks, resume: Resume) -> Iterator[Home]:
    """The home of a run, whose folder holds the finished run afterwards, or what it can go on from."""
    with ExitStack() as scope:
        path = config.output_dir
        home = Home(checkpoints=None if path is None else Folder(path / CHECKPOINTS), resume=resume)

        def make() -> tuple[list[Path], dict[str, dict[str, Any]]]:
            if path is not None:
                home.folder = scope.enter_context(RunFolder(path, config.overwrite, _in_place(path, resume)))
                if not home.folder.goes_on:  # the run that stands there is the other's until it is taken up
                    home.folder.write_config(dump(config))
            found = candidates(resume, home.checkpoints)
            manifest = first_manifest(found)
            return found, manifest.extra["baselines"] if manifest else {}

        home.found, home.baselines = ranks.on_first(make)
        yield home


def _in_place(path: Path, resume: Resume) -> bool:
    """Whether a run goes on in its own folder."""
    return resume == "auto" or (resume is not None and resume.resolve().parent == (path / CHECKPOINTS).resolve())
