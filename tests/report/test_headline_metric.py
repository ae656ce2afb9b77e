"""How what a run is judged by is shown."""

from __future__ import annotations

from typing import Any

import pytest

from avil_fast.report.headline_metric import measure, shown

ACCURACY = {"name": "accuracy", "higher_is_better": True, "percent": True}
ERROR = {"name": "mse", "higher_is_better": False, "percent": False}


def row(dev: float | None, test: float | None = None) -> dict[str, Any]:
    return {"dev_metric": dev, "test_metric": test, "dev_loss": 0.5, "test_loss": None}


@pytest.mark.parametrize(
    ("value", "metric", "rows", "text"),
    [
        (0.5, ACCURACY, [row(0.5)], "50.0 %"),
        (0.5, ACCURACY, [row(0.5), row(0.5, 62.0)], "0.500"),  # beside one that is no share of one
        (62.0, ACCURACY, [row(62.0)], "62.000"),
        (0.5, ERROR, [row(0.5)], "0.500"),
        (0.5, None, [row(None)], "0.500"),  # a loss
        (None, ACCURACY, [row(0.5)], "–"),
    ],
)
def test_a_metric_is_a_percentage_where_all_beside_it_are_shares_of_one(
    value: float | None, metric: dict[str, Any] | None, rows: list[dict[str, Any]], text: str
) -> None:
    assert shown(value, metric, rows) == text


def test_runs_are_compared_in_percent_where_what_is_beside_them_can_be() -> None:
    run = row(0.5, 0.6) | {"metric": ACCURACY}
    assert measure([run]).percent
    assert measure([run], beside=[row(1.0)]).percent
    assert not measure([run], beside=[row(62.0)]).percent
    assert not measure([row(0.5) | {"metric": ERROR}]).percent
