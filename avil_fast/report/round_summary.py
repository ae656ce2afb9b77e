"""What the rounds of a run say about its tasks, whether it is finished or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avil_fast.config import TrainConfig
from avil_fast.engine.base import Evaluation
from avil_fast.methods.scalar_rules import initial_alpha

Row = Mapping[str, Any]


def summary_of_rounds(
    config: TrainConfig, tasks: Sequence[str], history: Sequence[Row], best_round: int
) -> dict[str, Any]:
    """The keys of a summary that follow from the lines of metrics.jsonl, of which there is at least one."""
    kept = [row for row in history if row["round"] <= best_round]
    mean = {name: float(np.mean([row["alpha"][name] for row in history])) for name in tasks}
    last = history[-1]
    return {
        "alpha_mean": mean,
        "alpha_last": last["alpha"],
        "benefit": {name: _sum([row.get("benefit", {}).get(name) for row in kept]) for name in tasks},
        "influence": _influence(mean, last["weight"], config),
        "weight_last": last["weight"],
        "share_last": last.get("share"),
    }


def provisional_summary(
    config: TrainConfig, tasks: Sequence[str], metric: Mapping[str, Any] | None, history: Sequence[Row]
) -> dict[str, Any]:
    """The summary of a run that goes on."""
    best = _best(config, metric, history)
    measured = ("dev_loss", "dev_metric", "dev_held_out", "test_loss", "test_metric")
    return {
        "method": config.method,
        "preset": config.preset,
        "target": config.target,
        "metric": metric,
        "tasks": list(tasks),
        "seed": config.seed,
        "rounds": len(history),
        "best_round": best["round"],
        "finetune_epoch": 0,
        **{key: best[key] for key in measured if key in best},
        **summary_of_rounds(config, tasks, history, best["round"]),
        "steps": {},
        "rejected_steps": {
            name: sum(row.get("rejected_steps", {}).get(name, 0) for row in history) for name in tasks
        },
        "rejected_alpha_steps": sum(row.get("rejected_alpha_steps", 0) for row in history),
        "seconds": sum(row["seconds"]["total"] for row in history),
        "versions": {},
        "baselines": {},
    }


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
