"""The front matter of a model card, by which a hub finds the model."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import Any

from avil_fast.report.exported_run import ExportedRun
from avil_fast.report.headline_metric import held_out
from avil_fast.tasks.text.model_path import HUB, package_of

_PIPELINES = {"encoder": "text-classification", "causal_lm": "text-generation"}
"""What a hub calls the task of each kind of model."""


def front_matter(run: ExportedRun) -> dict[str, Any]:
    """What a hub finds the model by."""
    tags = ["avil-fast", "multi-task-learning", "auxiliary-tasks", "task-arithmetic"]
    kind = _PIPELINES.get(run.model.name) if run.model else None
    front: dict[str, Any] = {"library_name": "transformers" if run.is_transformers else "avil-fast"}
    if base := _base_model(run):
        front["base_model"] = base
    if kind:
        front["pipeline_tag"] = kind
    lora = getattr(run.model, "lora", None)
    front["tags"] = [*tags, *(["lora"] if lora else [])]
    metric, target = run.summary.get("metric"), run.summary["target"]
    splits = ("dev", "test") if held_out(run.summary) else ("test",)
    by_split = [(split, run.summary[f"{split}_metric"]) for split in splits]
    values = [(split, value) for split, value in by_split if value is not None]
    if metric and values:
        front["metrics"] = [metric["name"]]
        front["model-index"] = [
            {
                "name": title(run),
                "results": [
                    {
                        "task": {"type": kind or "other"},
                        "dataset": {"name": target, "type": _slug(target), "split": split},
                        "metrics": [{"type": metric["name"], "value": value, "name": f"{split} {metric['name']}"}],
                    }
                    for split, value in values
                ],
            }
        ]
    return front


def _base_model(run: ExportedRun) -> str | None:
    """A name on a hub, or that of an installed package; None for a model that was not trained before.

    Nor has one from a local folder any: a hub would take the folder's name for that of a model of its own.
    """
    path = _trained_before(run)
    if path is None:
        return None
    return path.removeprefix(HUB) if path.startswith(HUB) else package_of(path)


def _trained_before(run: ExportedRun) -> str | None:
    """The path of the model that the run began with, unless its parameters were drawn anew."""
    path: str | None = getattr(run.model, "path", None)
    return None if getattr(run.model, "init", "saved") == "random" else path


def title(run: ExportedRun) -> str:
    """The model's name: that of its base, or of the base's folder, if it has one, and the target."""
    path = _trained_before(run)
    return "-".join([*([PureWindowsPath(path.removeprefix(HUB)).name] if path else []), run.summary["target"]])


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "task"
