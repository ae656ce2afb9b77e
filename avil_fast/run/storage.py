"""Where a run writes, and which checkpoints it may go on from."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avil_fast.checkpoint.folder import CHECKPOINTS, Folder
from avil_fast.checkpoint.resume import (
    Resume,
    candidates,
    first_manifest,
    require_same_settings,
    settings_that_differ,
)
from avil_fast.config import TrainConfig, dump
from avil_fast.engine.ranks import Ranks
from avil_fast.errors import AvilError
from avil_fast.report.folder import RunFolder


@dataclass
class RunStorage:
    """Of one run, or of one of its baselines."""

    folder: RunFolder | None = None
    """The run's folder; None if nothing is to be written, and on all ranks but the first."""
    checkpoints: Folder | None = None
    resume: Resume = None
    candidates: list[Path] = field(default_factory=list)
    """Checkpoints to go on from, the best first."""
    is_baseline: bool = False
    baselines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Summaries of those that were run before."""

    def of_baseline(self, name: str, config: TrainConfig, ranks: Ranks) -> RunStorage:
        """Where a baseline saves itself, until the run that it belongs to has begun."""
        if self.checkpoints is None:
            return RunStorage(is_baseline=True)
        folder = Folder(self.checkpoints.path / name)

        def usable() -> list[Path]:
            paths = candidates("auto", folder)
            if unlike := settings_that_differ(paths, config):
                warnings.warn(f"{name} starts anew, as its checkpoint has {unlike[0]}", stacklevel=2)
                shutil.rmtree(folder.path)
                return []
            return paths

        return RunStorage(checkpoints=folder, resume="auto", candidates=ranks.on_first(usable), is_baseline=True)

    def forget_baselines(self) -> None:
        """Remove what baselines saved: their results are in the run's own checkpoints."""
        if self.checkpoints is not None:
            for path in self.checkpoints.path.glob("*"):
                if path.is_dir() and "checkpoint-" not in path.name:
                    shutil.rmtree(path, ignore_errors=True)


def require_free(config: TrainConfig, resume: Resume) -> None:
    """Refuse an output_dir that the run may not write into."""
    path = config.output_dir
    if path is None:
        return
    in_place = _in_place(path, resume)
    if isinstance(resume, Path) and not in_place and path.resolve() in resume.resolve().parents:
        raise AvilError(
            f"--resume is {str(resume)!r}, which is no checkpoint of the run in output_dir; name a folder such as "
            f"{path / CHECKPOINTS / 'checkpoint-000001'}, or auto"
        )
    RunFolder(path, config.overwrite, in_place)


@contextmanager
def open_storage(config: TrainConfig, ranks: Ranks, resume: Resume) -> Iterator[RunStorage]:
    """The storage of a run, whose folder holds the finished run afterwards, or what it can go on from."""
    with ExitStack() as scope:
        path = config.output_dir
        storage = RunStorage(checkpoints=None if path is None else Folder(path / CHECKPOINTS), resume=resume)

        def make() -> tuple[list[Path], dict[str, dict[str, Any]]]:
            if path is not None:
                storage.folder = scope.enter_context(RunFolder(path, config.overwrite, _in_place(path, resume)))
                if not storage.folder.goes_on:  # the run that stands there is the other's until it is taken up
                    storage.folder.write_config(dump(config))
            paths = candidates(resume, storage.checkpoints)
            require_same_settings(paths, resume, config.model_dump(mode="json"))
            return paths, _baselines_of(paths, config)

        storage.candidates, storage.baselines = ranks.on_first(make)
        yield storage


def _baselines_of(paths: Sequence[Path], config: TrainConfig) -> dict[str, dict[str, Any]]:
    """The summaries that the newest checkpoint has of baselines; none if the run has another length now."""
    manifest = first_manifest(paths)
    if manifest is None:
        return {}
    before = manifest.config
    if (before["rounds"], before["finetune"]["epochs"]) != (config.rounds, config.finetune.epochs):
        if manifest.extra["baselines"]:
            warnings.warn("the run has another length now, so its baselines are run again", stacklevel=2)
        return {}
    baselines: dict[str, dict[str, Any]] = manifest.extra["baselines"]
    return baselines


def _in_place(path: Path, resume: Resume) -> bool:
    """Whether a run goes on in its own folder."""
    return resume == "auto" or (resume is not None and resume.resolve().parent == (path / CHECKPOINTS).resolve())
