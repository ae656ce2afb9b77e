"""Beside its baselines a run is ahead, level or behind, as far as its test examples tell, and says what to do."""

from __future__ import annotations

import math
from typing import Any

import pytest

from avil_fast.config import from_dotted
from avil_fast.report import page
from avil_fast.report.advice import NEAR_START, advice
from tests.report.test_page import Reader, make

FAR = [[1.0, 1.0], [1.0, 0.5]]


def run(own: float, baseline: float, test: int | None = 2000, path: Any = FAR, **changes: Any) -> tuple[Any, Any]:
    """A run with these test accuracies, so many test examples, and this way of α."""
    summary, history = make(["a", "b"])
    summary |= {"test_metric": own, "examples": {"a": {"test": test}} if test else {}} | changes
    summary["baselines"]["single"]["test_metric"] = baseline
    for row in history:
        row["alpha_path"] = path
    return summary, history


def test_behind_says_to_leave_the_auxiliaries_out() -> None:
    assert advice(*run(0.49, 1.0)) == "Behind the baseline single by 51.0 points: leave the auxiliaries out."
    near = run(0.49, 1.0, path=[[1.0, 1.0], [1.6, 0.96]])
    assert advice(*near) == f"Behind the baseline single by 51.0 points: leave the auxiliaries out. {NEAR_START}"


def test_ahead_is_said_without_more() -> None:
    assert advice(*run(0.9, 0.8, path=[[1.0, 1.0], [1.0, 1.0]])) == "Ahead of the baseline single by 10.0 points."


@pytest.mark.parametrize(
    ("own", "test", "word"),
    [
        (0.8, 2000, "Level"),
        (0.82, 2000, "Level"),  # two standard errors of the difference are 2.5 points
        (0.78, 2000, "Level"),
        (0.83, 2000, "Ahead"),
        (0.77, 2000, "Behind"),
        (0.77, 200, "Level"),
        (0.809, None, "Level"),
        (0.811, None, "Ahead"),
        (0.789, None, "Behind"),
    ],
)
def test_level_is_what_so_many_examples_cannot_tell(own: float, test: int | None, word: str) -> None:
    assert advice(*run(own, 0.8, test)).startswith(word)


def test_the_bound_is_twice_the_binomial_standard_error_of_the_difference() -> None:
    bound = 200 * math.sqrt((0.8 * 0.2 + 0.82 * 0.18) / 2000)
    assert advice(*run(0.82, 0.8)) == (
        "Level with the baseline single: with 2,000 test examples a difference of up to "
        f"{bound:.1f} points can be chance."
    )
    assert "single: a difference of up to 1.0 points can be chance." in advice(*run(0.8, 0.8, None))


def test_of_an_error_less_is_ahead() -> None:
    metric = {"name": "mse", "higher_is_better": False, "percent": False}
    assert advice(*run(2.0, 2.5, metric=metric)) == "Ahead of the baseline single by 0.500."
    assert "Behind the baseline single by 0.500:" in advice(*run(2.5, 2.0, metric=metric))


def test_a_better_method_on_all_tasks_is_to_be_used() -> None:
    summary, history = run(0.5, 0.6)
    multitask = summary["baselines"]["single"] | {"method": "multitask", "steps": {"a": 5, "b": 5}}
    summary["baselines"]["multitask"] = multitask | {"test_metric": 0.7}
    assert advice(summary, history) == "Behind the baseline multitask by 20.0 points: use method=multitask."


def test_nothing_is_said_where_nothing_can_be() -> None:
    summary, history = run(0.5, 0.6)
    assert advice(summary | {"baselines": {}}, history) == ""
    assert advice(summary | {"steps": {"a": 9, "b": 0}}, history) == ""  # no auxiliary was trained
    for one in (summary, summary["baselines"]["single"]):
        one |= {"test_metric": None, "test_loss": None}
    assert advice(summary | {"dev_held_out": False}, history) == ""


def test_the_page_says_it_on_top() -> None:
    text = Reader(page.render(*run(0.49, 1.0), "")).text
    assert text.index("leave the auxiliaries out.") < text.index("What was learned about the auxiliaries")


def test_the_settings_that_it_names_are_there() -> None:
    named = dict(word.split("=") for word in NEAR_START.rstrip(".").split() if "=" in word)
    settings = from_dotted({"target": "a", **named, "alpha.lr": float(named["alpha.lr"])}).alpha
    assert (settings.optimizer, settings.lr) == ("adam", 0.1)
