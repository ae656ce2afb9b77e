"""`avil-fast export`: a finished run's model in a folder for others, with its card and, if asked, task vectors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from avil_fast.config import TrainConfig, from_dotted, from_settings
from avil_fast.errors import AvilError, reason
from avil_fast.files.replacing import replace_folder
from avil_fast.model_copies import CARD, copy_model, copy_vectors
from avil_fast.names import is_plain
from avil_fast.report.card import MARK, render
from avil_fast.report.exported_run import ExportedRun
from avil_fast.report.place import CONFIG, METRICS, MODEL, SUMMARY
from avil_fast.report.run import read
from avil_fast.report.vectors import BASE, FOLDER, TASKS, read_about

Value = TypeVar("Value")


def export(run: Path, to: Path, task_vectors: bool = False, overwrite: bool = False) -> list[Path]:
    """Copy a finished run's model into a folder of its own, and write its model card.

    Args:
        run: the run's folder.
        to: new or empty.
        task_vectors: write the model before the kept round and as each task left it, too, and how to merge these.
        overwrite: replace whatever lies in `to`, once the new one is whole.

    Returns:
        The files, sorted.

    Raises:
        AvilError: the run is not finished, is damaged or has no such vectors; or `to` cannot be written.
    """
    exported = _read(run)
    about = _about_vectors(run, exported) if task_vectors else {}
    place = to.resolve()
    _require_free(run.resolve(), to, overwrite)
    partial = place.with_name(place.name + ".partial")
    if not _is_replaceable(partial):
        raise AvilError(f"{str(partial)!r} is in the way and is no export; move it")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        folders = _folders(about.get("tasks", []))
        vectors = {name: (folders[name], a) for name, a in zip(folders, about.get("alpha", []), strict=True)}
        (partial / CARD).write_text(render(exported, vectors or None), encoding="utf-8")
        copy_model(run / MODEL.parent, partial)
        if vectors:
            copy_vectors(run, partial, vectors)
        replace_folder(place, partial)
    except OSError as error:
        raise AvilError(
            f"{str(to)!r} cannot be written: {reason(error)}; make room, or name another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(to / path.relative_to(place) for path in place.rglob("*") if path.is_file())


def _read(run: Path) -> ExportedRun:
    finished = read(run)
    model = run / MODEL.parent
    _require_whole(model)
    is_transformers = (model / "config.json").is_file()
    about = _parse(model / "config.json", json.loads, dict) if is_transformers else {}
    version = about.get("transformers_version")
    exported = ExportedRun(
        run=finished,
        config=_config(finished.settings, run / CONFIG),
        versions={"transformers": version} if isinstance(version, str) else {},
        is_transformers=is_transformers,
    )
    try:
        render(exported)
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration) as error:
        what = f"{type(error).__name__} {error}".strip()
        raise AvilError(
            f"{str(run / SUMMARY)!r} does not fit {METRICS} and {CONFIG} beside it ({what}); take the folder from "
            f"a copy of the run"
        ) from error
    return exported


def _config(settings: dict[str, Any], path: Path) -> TrainConfig:
    """A run from a file has tasks among its settings; one of `fit` has not."""
    return from_settings(settings, str(path)) if "tasks" in settings else from_dotted(settings)


def _parse(path: Path, read: Callable[[str], Any], kind: type[Value]) -> Value:
    """What a file holds, which must be of a kind."""
    try:
        value = read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AvilError(f"{str(path)!r} is damaged: {reason(error)}; take it from a copy of the run") from error
    if not isinstance(value, kind):
        raise AvilError(
            f"{str(path)!r} is damaged: it holds a {type(value).__name__}; take it from a copy of the run"
        )
    return value


def _require_whole(folder: Path) -> None:
    """Refuse a folder without weights, or with files that are cut short or missing."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(_parse(index, json.loads, dict).get("weight_map", {}).values())
        if strange := [name for name in names if not is_plain(name)]:
            raise AvilError(f"{str(index)!r} names {strange[0]!r}, which is not within its folder; do not use it")
        files = sorted(folder / name for name in names)
    if not files:
        raise AvilError(f"{str(folder)!r} has no model: no file of safetensors; take it from a copy of the run")
    for path in files:
        try:
            with safe_open(path, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise AvilError(f"{str(path)!r} is damaged: {error}; take it from a copy of the run") from error


def _about_vectors(run: Path, exported: ExportedRun) -> dict[str, Any]:
    """Round, tasks and α of the vectors that the run kept."""
    folder, kept = run / FOLDER, exported.summary["best_round"]
    about = read_about(folder)
    if not about:
        raise AvilError(f"{str(run)!r} has no task vectors; train with task_vectors=true to have them kept")
    if about.get("round") != kept:
        raise AvilError(
            f"{str(folder)!r} has the task vectors of round {about.get('round')}, but the model is that of round "
            f"{kept}: they could not be kept then; train again with task_vectors=true, alpha.settled=merge, and "
            f"room on the disk"
        )
    if about.get("tasks") != exported.summary["tasks"] or len(about.get("alpha", [])) != len(about["tasks"]):
        raise AvilError(f"{str(folder)!r} is of other tasks than the run; train again with task_vectors=true")
    for name in [BASE, *(f"{TASKS}/{i}" for i in range(len(about["tasks"])))]:
        _require_whole(folder / name)
    return about


def _folders(tasks: Iterable[str]) -> dict[str, str]:
    """The folder of each task: its name, with a number where another task's would be the same."""
    folders: dict[str, str] = {}
    for number, task in enumerate(tasks):
        name = re.sub(r"[^\w-]+", "-", task) or "task"
        taken = {folder.lower() for folder in folders.values()}
        folders[task] = f"{TASKS}/{name}" if f"{TASKS}/{name}".lower() not in taken else f"{TASKS}/{name}-{number}"
    return folders


def _require_free(run: Path, to: Path, overwrite: bool) -> None:
    place = to.resolve()
    if place in (run, *run.parents) or run in place.parents:
        raise AvilError(
            f"the model cannot be exported to {str(to)!r}, where the run itself is; name another folder"
        )
    if place in (Path.cwd(), *Path.cwd().parents, Path.home(), *Path.home().parents):
        raise AvilError(f"the model cannot be exported to {str(to)!r}, which holds more; name a folder of its own")
    if place.exists() and not place.is_dir():
        raise AvilError(f"the model cannot be exported to {str(to)!r}, which is a file; name a folder")
    if not overwrite and place.is_dir() and any(place.iterdir()):
        what = "an earlier export" if _is_replaceable(place) else "files that are no export"
        raise AvilError(f"{str(to)!r} holds {what}; name another folder, or give --overwrite")


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder is not there, is empty, or is an export to which nobody added anything."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not names:
        return not folder.exists() or folder.is_dir()
    ours = (".json", ".safetensors", ".txt", ".model", ".jinja", ".yaml")
    strange = {n for n in names - {CARD, BASE, TASKS} if n.startswith(".") or not n.endswith(ours)}
    card = folder / CARD
    return not strange and card.is_file() and MARK in card.read_text(encoding="utf-8", errors="replace")
