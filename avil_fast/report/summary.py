"""What summary.json says of a run, and what it would say of one that still goes on."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from avil_fast.config import TrainConfig
from avil_fast.engine.results import Evaluation
from avil_fast.methods.loop import Outcome
from avil_fast.methods.scalar_rules import initial_alpha
from avil_fast.tasks.data_kinds import is_dataset, length_of
from avil_fast.tasks.task import Scorer, Task

Row = Mapping[str, Any]
"""A line of metrics.jsonl."""


def final_summary(tasks: Sequence[Task], config: TrainConfig, outcome: Outcome) -> dict[str, Any]:
    """The summary of a finished run, but for its ranks, memory, checkpoints and baselines."""
    measured = {
        "finetune_epoch": outcome.finetune_epoch,
        "dev_loss": outcome.dev.loss,
        "dev_metric": outcome.dev.metric,
        "dev_held_out": outcome.dev_held_out,
        "test_loss": outcome.test.loss if outcome.test and math.isfinite(outcome.test.loss) else None,
        "test_metric": outcome.test.metric if outcome.test else None,
    }
    names, metric = [task.name for task in tasks], metric_of(tasks, config.target)
    return {
        **_common(config, names, metric, outcome.history, outcome.best_round, measured),
        "steps": outcome.steps,
        "rejected_steps": outcome.rejected_steps,
        "rejected_alpha_steps": _rejected_alpha_steps(outcome.history),
        "examples_seen": outcome.examples_seen,
        "dev_passes": outcome.dev_passes,
        "examples": {task.name: _examples(task) for task in tasks},
        "seconds": outcome.seconds,
        "cpu_seconds": outcome.cpu_seconds,
        "versions": {
            "avil_fast": importlib.metadata.version("avil-fast"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def provisional_summary(
    config: TrainConfig, tasks: Sequence[str], metric: Mapping[str, Any] | None, history: Sequence[Row]
) -> dict[str, Any]:
    """The summary of a run that goes on."""
    best = _best(config, metric, history)
    figures = ("dev_loss", "dev_metric", "dev_held_out", "test_loss", "test_metric")
    measured = {"finetune_epoch": 0} | {key: best[key] for key in figures if key in best}
    return {
        **_common(config, tasks, metric, history, best["round"], measured),
        "steps": {},
        "rejected_steps": {
            name: sum(row.get("rejected_steps", {}).get(name, 0) for row in history) for name in tasks
        },
        "rejected_alpha_steps": _rejected_alpha_steps(history),
        "seconds": sum(row["seconds"]["total"] for row in history),
        "versions": {},
        "baselines": {},
    }


def metric_of(tasks: Sequence[Task], target: str) -> dict[str, Any] | None:
    """What is known of the target's metric."""
    metric = next(task.metric for task in tasks if task.name == target)
    if metric is None:
        return None
    if isinstance(metric, Scorer):
        percent = bool(getattr(metric, "percent", False))
        return {"name": metric.name, "higher_is_better": metric.higher_is_better, "percent": percent}
    return {"name": getattr(metric, "__name__", "metric"), "higher_is_better": True, "percent": True}


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has had: of the GPU where the model is on one, else of the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _common(
    config: TrainConfig,
    tasks: Sequence[str],
    metric: Mapping[str, Any] | None,
    history: Sequence[Row],
    best_round: int,
    measured: Mapping[str, Any],
) -> dict[str, Any]:
    """What every summary begins with; `history` has at least one line."""
    kept = [row for row in history if row["round"] <= best_round]
    mean = {name: float(np.mean([row["alpha"][name] for row in history])) for name in tasks}
    last = history[-1]
    return {
        "method": config.method,
        "preset": config.preset,
        "target": config.target,
        "metric": metric,
        "tasks": list(tasks),
        "seed": config.seed,
        "rounds": len(history),
        "best_round": best_round,
        **measured,
        "alpha_mean": mean,
        "alpha_last": last["alpha"],
        "benefit": {name: _sum([row.get("benefit", {}).get(name) for row in kept]) for name in tasks},
        "influence": _influence(mean, last["weight"], config),
        "weight_last": last["weight"],
        "share_last": last.get("share"),
    }


def _rejected_alpha_steps(history: Sequence[Row]) -> int:
    return sum(row.get("rejected_alpha_steps", 0) for row in history)


def _examples(task: Task) -> dict[str, int]:
    """How many a task has by split, of those that are known."""
    splits = {split: getattr(task, split) for split in ("train", "dev", "test")}
    return {split: len(data) for split, data in splits.items() if is_dataset(data) and length_of(data) is not None}


def _best(config: TrainConfig, metric: Mapping[str, Any] | None, history: Sequence[Row]) -> Row:
    """The round that would be kept now."""
    if config.keep == "last" or not history[-1].get("dev_held_out", True):
        return history[-1]
    higher = metric is None or metric["higher_is_better"]
    best = history[0]
    for row in history[1:]:
        if _evaluation(row, higher).better_than(_evaluation(best, higher)):
            best = row
    return best


def _evaluation(row: Row, higher_is_better: bool) -> Evaluation:
    return Evaluation(row["dev_loss"], row["dev_metric"], higher_is_better)


def _influence(alpha_mean: dict[str, float], weight: dict[str, float], config: TrainConfig) -> dict[str, float]:
    """What a run made of each task, 1 for one that was left as it started.

    The final weight; or, where weights stay at 1, the mean α over its start.
    """
    if config.method == "avil" and config.weights.rule == "off":
        begin = initial_alpha(config.alpha, len(alpha_mean))
        return {name: alpha / begin for name, alpha in alpha_mean.items()}
    return weight


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
