"""Copies of a run's model and task vectors for others, which tell nothing of this machine's folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from avil_fast.files.yaml_text import to_yaml
from avil_fast.report.place import MODEL
from avil_fast.report.redaction import without_folders
from avil_fast.report.vectors import BASE, FOLDER, TASKS

CARD, MERGE = "README.md", "merge.yaml"

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_DTYPES = {"F16": "float16", "BF16": "bfloat16"}
_PATHS = {"_name_or_path", "name_or_path", "base_model_name_or_path"}
"""Where files of transformers and peft may tell from which folder a model came."""


def copy_model(model: Path, to: Path, weights: Path | None = None) -> None:
    """Copy a model: its files of transformers, if there are any, and its weights, or those of another folder.

    No file tells from which folder of this machine the model came.
    """
    for path in sorted(model.rglob("*")):
        of_weights = any(path.match(pattern) for pattern in _WEIGHTS)
        if path.is_file() and path.name != CARD and not (of_weights and weights) and path.suffix != ".partial":
            copy = to / path.relative_to(model)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            if path.suffix == ".json" and not of_weights:
                _without_paths(copy)
    if weights is not None:
        to.mkdir(parents=True, exist_ok=True)
        for pattern in _WEIGHTS:
            for path in sorted(weights.glob(pattern)):
                shutil.copyfile(path, to / path.name)


def _without_paths(path: Path) -> None:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return
    if isinstance(about, dict) and (names := [n for n in _PATHS & about.keys() if isinstance(about[n], str)]):
        _write_json(path, about | {name: without_folders(about[name]) for name in names})


def _write_json(path: Path, about: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def copy_vectors(run: Path, to: Path, vectors: Mapping[str, tuple[str, float]]) -> None:
    """Copy the model as it was before the kept round and as each task left it, and write how to merge these.

    Args:
        run: the run's folder.
        to: of the export.
        vectors: folder within `to` and α of each task, by its name and in the order of the run.
    """
    model, kept = run / MODEL.parent, run / FOLDER
    sources = {BASE: BASE} | {folder: f"{TASKS}/{i}" for i, (folder, _) in enumerate(vectors.values())}
    for folder, source in sources.items():
        copy_model(model, to / folder, weights=kept / source)
        if (settings := to / folder / "config.json").is_file():
            about = json.loads(settings.read_text(encoding="utf-8"))
            in_fp32 = {name: "float32" for name in ("dtype", "torch_dtype") if name in about}
            _write_json(settings, about | in_fp32)
    if not (model / "config.json").is_file():
        return  # mergekit reads models of transformers
    merge = {
        "merge_method": "task_arithmetic",
        "base_model": f"./{BASE}",
        "models": [
            {"model": f"./{folder}", "parameters": {"weight": alpha}} for folder, alpha in vectors.values()
        ],
        "parameters": {"normalize": False},
        "dtype": "float32",
        "out_dtype": _dtype(model),
    }
    (to / MERGE).write_text(to_yaml(merge), encoding="utf-8")


def _dtype(model: Path) -> str:
    """The lowest precision in which a model's weights are saved."""
    codes: set[str] = set()
    for path in model.glob(_WEIGHTS[0]):
        with safe_open(path, "pt") as file:
            codes |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  # no mapping
    return next((name for code, name in _DTYPES.items() if code in codes), "float32")
