"""Shapes that were counted before, kept in the user's cache: counting one imports transformers and the model's
code, which takes longer than all the rest of a plan."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avil_fast.config.model import TextModelConfig
from avil_fast.config.text_tasks import TextTaskConfig
from avil_fast.tasks.shapes.base import Kept, Pass, Shape, Sizes


class RememberedShape(Shape):
    """The shape of a text model, counted when a figure is asked for that no plan has asked for before.

    A count depends on the model's config.json, the settings, and the versions of what counts; where one of these
    changes, or the model is no local folder, it is counted anew.

    Raises:
        AvilError: there is no such model, or a package is missing.
    """

    def __init__(self, tasks: Mapping[str, TextTaskConfig], target: str, model: TextModelConfig) -> None:
        self._given = tasks, target, model
        self._counter: Shape | None = None
        self._file = _file_of(tasks, target, model)
        known = _read(self._file)
        if known is None:
            counter = self._counted()
            known = {"sizes": asdict(counter.sizes), "tokens": counter.tokens, "notes": counter.notes, "kept": {}}
            _write(self._file, known)
        self._known = known
        self.sizes, self.tokens, self.notes = Sizes(**known["sizes"]), known["tokens"], known["notes"]

    def kept(self, examples: int, kind: Pass) -> Kept:
        key = f"{kind} of {examples}"
        if key not in self._known["kept"]:
            self._known["kept"][key] = asdict(self._counted().kept(examples, kind))
            _write(self._file, self._known)
        return Kept(**self._known["kept"][key])

    def changed(self, **settings: Any) -> Shape | None:
        tasks, target, model = self._given
        if all(getattr(model, name) == value for name, value in settings.items()):
            return None
        return RememberedShape(tasks, target, model.model_copy(update=settings))

    def _counted(self) -> Shape:
        if self._counter is None:
            from avil_fast.tasks.shapes.texts import TextShape

            self._counter = TextShape(*self._given)
        return self._counter


def cache() -> Path:
    """The folder of remembered shapes: avil_fast/shapes in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "avil_fast" / "shapes"


def _file_of(tasks: Mapping[str, TextTaskConfig], target: str, model: TextModelConfig) -> Path | None:
    """Where a shape is remembered; None where it is not."""
    try:
        described = (Path(model.path) / "config.json").read_text(encoding="utf-8")
        versions = [importlib.metadata.version(package) for package in ("torch", "transformers", "avil_fast")]
    except (OSError, UnicodeError, importlib.metadata.PackageNotFoundError):
        return None
    here = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    heads = {name: [task.kind, task.labels] for name, task in tasks.items()}
    what = [described, model.model_dump(mode="json"), heads, target, versions, here]
    return cache() / f"{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]}.json"


def _read(path: Path | None) -> dict[str, Any] | None:
    """What is remembered; None if nothing is, or nothing that can be read."""
    if path is None:
        return None
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        Sizes(**known["sizes"])
        all(Kept(**kept) for kept in known["kept"].values())
        return known if isinstance(known["tokens"], int) and isinstance(known["notes"], list) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _write(path: Path | None, known: Mapping[str, Any]) -> None:
    """Whole or not at all; a cache that cannot be written costs time and nothing else."""
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            json.dump(known, file)
        os.replace(file.name, path)
