"""The front matter of a model card, by which a hub finds the model."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import Any

from avil_fast.report.exported_run import ExportedRun
from avil_fast.report.headline_metric import held_out

_HUB = "hub:"
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
    """A name on a hub, or a folder's own name; None for a model that was not trained before."""
    path = getattr(run.model, "path", None)
    if path is None or getattr(run.model, "init", "saved") == "random":
        return None
    return str(path).removeprefix(_HUB) if path.startswith(_HUB) else PureWindowsPath(path).name


def title(run: ExportedRun) -> str:
    """The model's name on a hub: that of its base, if it has one, and the target."""
    base = _base_model(run)
    return "-".join([*([base.rpartition("/")[2]] if base else []), run.summary["target"]])


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "task"
