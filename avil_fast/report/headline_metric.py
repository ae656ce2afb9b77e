"""What a run is judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_KEYS = ("test_metric", "dev_metric", "test_loss", "dev_loss")
"""The first of these that all runs have."""


SEEN = "trained on"
"""In place of a dev figure of a model that was trained on the dev set."""


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
    metric = metric_info(runs[0])
    is_metric = key.endswith("metric")
    known = not key.startswith("dev") or all(map(held_out, runs))
    return Measure(
        key,
        key.replace("metric", metric["name"]).replace("_", " ") + ("" if known else f" ({SEEN})"),
        is_metric and metric["percent"],
        not (is_metric and metric["higher_is_better"]),
    )


def held_out(run: Mapping[str, Any]) -> bool:
    """Whether the dev figures of a summary or a round are of data that the model was not trained on."""
    return bool(run.get("dev_held_out", True))


def metric_info(run: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run's metric; older runs do not tell."""
    return run.get("metric") or {"name": "metric", "higher_is_better": True, "percent": False}


def measured(rows: Iterable[Mapping[str, Any]], key: str) -> list[float | None]:
    """A figure by round; None on dev from where it was trained on."""
    return [row[key] if key.startswith("test") or held_out(row) else None for row in rows]


def is_percentage(rows: Iterable[Mapping[str, Any]]) -> bool:
    """All metrics of summaries or rounds can be read as shares of one."""
    values = [row[key] for row in rows for key in _KEYS[:2]]
    return all(0 <= value <= 1 for value in values if value is not None)
