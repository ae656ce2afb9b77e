"""What a run is judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_KEYS = ("test_metric", "dev_metric", "test_loss", "dev_loss")
"""The first of these that all runs have."""


@dataclass(frozen=True)
class Measure:
    """What runs are compared by.

    Attributes:
        key: where a summary has it.
        name: for a reader, such as "test accuracy".
        percent: shown as a percentage.
        lower_is_better: a loss, or an error.
    """

    key: str
    name: str
    percent: bool
    lower_is_better: bool


def measure(runs: Sequence[Mapping[str, Any]]) -> Measure:
    """That of the summaries of runs with the same metric."""
    key = next((key for key in _KEYS if all(run[key] is not None for run in runs)), "dev_loss")
    metric = about(runs[0])
    is_metric = key.endswith("metric")
    return Measure(
        key,
        key.replace("metric", metric["name"]).replace("_", " "),
        is_metric and metric["percent"],
        not (is_metric and metric["higher_is_better"]),
    )


def about(run: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run's metric; older runs do not tell."""
    return run.get("metric") or {"name": "metric", "higher_is_better": True, "percent": False}


def is_percentage(rows: Iterable[Mapping[str, Any]]) -> bool:
    """All metrics of summaries or rounds can be read as shares of one."""
    values = [row[key] for row in rows for key in _KEYS[:2]]
    return all(0 <= value <= 1 for value in values if value is not None)
