"""What a run is judged by, and how that is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avil_fast.report.formatting import number

_KEYS = ("test_metric", "dev_metric", "test_loss", "dev_loss")
"""The first of these that all runs have."""


SEEN = "trained on"
"""In place of a dev figure of a model that was trained on the dev set."""


@dataclass(frozen=True)
class Measure:
    """What runs with the same metric are compared by.

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


def measure(runs: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]] = ()) -> Measure:
    """The measure by which runs with the same metric are compared.

    Args:
        runs: their summaries.
        beside: more summaries, and rounds, that are shown with them.
    """
    key = next((key for key in _KEYS if all(run[key] is not None for run in runs)), "dev_loss")
    metric = metric_info(runs[0])
    is_metric = key.endswith("metric")
    is_held_out = not key.startswith("dev") or all(map(held_out, runs))
    return Measure(
        key,
        key.replace("metric", metric["name"]).replace("_", " ") + ("" if is_held_out else f" ({SEEN})"),
        is_metric and in_percent(metric, [*runs, *beside]),
        not (is_metric and metric["higher_is_better"]),
    )


def by_dev_of_some(runs: Sequence[Mapping[str, Any]], judged: Measure) -> bool:
    """Whether runs would be judged by a dev set that some of them, and not all, were trained on."""
    return judged.key.startswith("dev") and len(set(map(held_out, runs))) > 1


def held_out(run: Mapping[str, Any]) -> bool:
    """Whether the dev figures of a summary or a round are of data that the model was not trained on."""
    return bool(run.get("dev_held_out", True))


def metric_info(run: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run's metric; older runs do not tell."""
    return run.get("metric") or {"name": "metric", "higher_is_better": True, "percent": False}


def measured(rows: Iterable[Mapping[str, Any]], key: str) -> list[float | None]:
    """A figure by round; None on dev from where it was trained on."""
    return [row[key] if key.startswith("test") or held_out(row) else None for row in rows]


def in_percent(metric: Mapping[str, Any] | None, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a metric is shown as a percentage: it is a share of one, and so are all in summaries or rounds."""
    values = [row[key] for row in rows for key in _KEYS[:2]]
    return bool(metric and metric.get("percent")) and all(0 <= value <= 1 for value in values if value is not None)


def shown(value: float | None, metric: Mapping[str, Any] | None, rows: Iterable[Mapping[str, Any]]) -> str:
    """A metric's value, or a loss where there is no metric, as it stands among summaries or rounds."""
    return number(value, in_percent(metric, rows))
