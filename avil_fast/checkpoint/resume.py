"""Which checkpoint a run goes on from, and whether it may."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from avil_fast.checkpoint.file_format import Damaged
from avil_fast.checkpoint.folder import Folder, has_any, resolve
from avil_fast.checkpoint.load import load
from avil_fast.checkpoint.manifest import NAME, Manifest
from avil_fast.config import TrainConfig
from avil_fast.config.settings import flat
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.state import Snapshot
from avil_fast.errors import AvilError

Resume = Literal["auto"] | Path | None
"""auto: the newest whole checkpoint of the run's folder, or a fresh start if there is none. A path: that one."""

FREE = {
    "baselines",
    "checkpoints",
    "deepspeed",
    "deltas.device",
    "device",
    "gradient_accumulation_steps",
    "log",
    "max_rejected_steps",
    "model.compile",
    "model.gradient_checkpointing",
    "optimizer.backend",
    "output_dir",
    "rank_timeout",
    "overwrite",
    "task_vectors",
    "workers",
}
"""Settings and sections that may change: they say where and on what a run trains, not what comes out."""

UNTIL_FINETUNE = {"rounds", "finetune.epochs"}
"""Those that may change as long as the fine-tune has not begun."""


def as_resume(given: str | Path | None) -> Resume:
    """What somebody wrote, as a `Resume`: of a run's folder, or of its checkpoints', the newest one."""
    if given is None or given == "auto":
        return given  # type: ignore[return-value]  # mypy does not narrow by comparison
    return resolve(Path(given)) or Path(given)


class TooLate(AvilError):
    """The checkpoint is of the fine-tune, and the rounds are to be others."""


def candidates(resume: Resume, folder: Folder | None) -> list[Path]:
    """The checkpoints to try, the best first.

    Raises:
        AvilError: `resume` names none.
    """
    if resume is None:
        return []
    if resume == "auto" and folder is None:
        raise AvilError("resume is 'auto', but there is no output_dir to look for checkpoints in; set it")
    if resume == "auto":
        assert folder is not None
        return folder.all()[::-1]
    if not resume.exists():
        raise AvilError(
            f"--resume is {str(resume)!r}, but there is no such path; name a run's folder or a checkpoint, or "
            f"give auto"
        )
    if not (resume / NAME).is_file() and has_any(resume):
        raise AvilError(
            f"--resume is {str(resume)!r}, a run that was stopped in its baselines and has no checkpoint of its "
            f"own; give --resume auto"
        )
    if not (resume / NAME).is_file():
        raise AvilError(
            f"--resume is {str(resume)!r}, which is no checkpoint and holds none; name a folder such "
            f"as runs/digits/checkpoints/checkpoint-000001, or auto"
        )
    return [resume]


def first_manifest(paths: Sequence[Path]) -> Manifest | None:
    """The first one that can be read."""
    for path in paths:
        with suppress(Damaged):
            return Manifest.read(path)
    return None


def take_up(
    paths: Sequence[Path],
    resume: Resume,
    engine: Engine,
    ranks: Ranks,
    config: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
) -> tuple[Path, Manifest, Snapshot | None] | None:
    """Fill the engine from the first whole one of these checkpoints; None where `auto` finds none at all.

    Raises:
        AvilError: the checkpoint is damaged or of another run; with `auto`, all of them are damaged.
    """
    newest, late = "", None
    for path in paths:
        try:
            manifest = ranks.on_all(lambda path=path: Manifest.read(path), Damaged)  # type: ignore[misc]
            _require_same_run(path, manifest, config, tasks)
            return path, manifest, load(engine, ranks, path, manifest)
        except TooLate as error:
            if resume != "auto":
                raise
            late = error
        except Damaged as error:
            if resume != "auto":
                raise Damaged(f"{error}; name the checkpoint before it, or give --resume auto") from error
            newest = newest or str(error)
            if ranks.first and path != paths[-1]:
                warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
    if late is not None:
        raise late
    if paths:
        raise AvilError(f"no checkpoint is whole: {newest}; start anew with overwrite=true and without --resume")
    return None


def require_same_settings(paths: Sequence[Path], resume: Resume, config: Mapping[str, Any]) -> None:
    """Refuse other settings before anything is trained; `take_up` says what else is wrong.

    Raises:
        AvilError: the newest checkpoint that can be read was made with settings that may not change.
    """
    for path in paths:
        with suppress(Damaged):
            manifest = Manifest.read(path)
            try:
                _require_settings(path, manifest, config)
                return
            except TooLate:
                if resume != "auto" or path == paths[-1]:
                    raise


def settings_that_differ(paths: Sequence[Path], config: TrainConfig) -> list[str]:
    """What keeps a run with this configuration from going on; a sentence for each setting."""
    manifest = first_manifest(paths)
    if manifest is None:
        return []
    return list(setting_differences(manifest.config, config.model_dump(mode="json")).values())


OPTIONS = "options"


def setting_differences(before: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """The settings that make another result than those from before; a sentence for each name."""
    return {
        name: f"{name} is {here!r} and was {there!r}"
        for name, there, here in _differences(before, config)
        if not FREE & {name, name.split(".")[0]}
    }


def _require_settings(path: Path, manifest: Manifest, config: Mapping[str, Any]) -> None:
    told = setting_differences(manifest.config, config)
    if different := [sentence for name, sentence in told.items() if name not in UNTIL_FINETUNE]:
        raise AvilError(
            f"{str(path)!r} was made with other settings: {', '.join(different)}; set them as they were, or start "
            f"anew with overwrite=true and without --resume"
        )
    if told and manifest.run["finetune"] is not None:
        raise TooLate(
            f"{', '.join(told.values())}, but in {str(path)!r} the fine-tune has begun; name a checkpoint of a "
            f"round, or set them as they were"
        )
    if config["rounds"] < manifest.where["round"]:
        raise AvilError(
            f"rounds is {config['rounds']}, but {str(path)!r} is in round {manifest.where['round']}; set it higher"
        )


def _require_same_run(
    path: Path, manifest: Manifest, config: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]
) -> None:
    _require_settings(path, manifest, config)
    names = [[task["name"] for task in of_run] for of_run in (manifest.tasks, tasks)]
    if names[0] != names[1]:
        was, is_now = (", ".join(of_run) for of_run in names)
        raise AvilError(
            f"{str(path)!r} was made with other tasks: {was}, and now there are {is_now}; give those that it "
            f"was made with, in that order"
        )
    for there, here in zip(manifest.tasks, tasks, strict=True):
        if dict(there) != dict(here):
            raise AvilError(
                f"{str(path)!r} was made with other data: {_told(there)}, and now there is {_told(here)}; give "
                f"the data that it was made with"
            )


def _differences(saved: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, value then, value now) of the settings that both know and that differ.

    A method's options are one: those that are not there have their defaults.
    """
    now = dict(flat({**here, OPTIONS: None}))
    for name, value in flat({**saved, OPTIONS: None}):
        if name in now and now[name] != value:
            yield name, value, now[name]
    if (there := saved.get(OPTIONS) or {}) != (options := here.get(OPTIONS) or {}):
        yield OPTIONS, there, options


def _told(task: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{split} {task[split]}" for split in ("train", "dev", "test") if task[split] is not None)
    digests = "".join(f", {split} digest {digest}" for split, digest in task.get("digest", {}).items())
    return f"task {task['name']!r} ({counts}{digests})"
