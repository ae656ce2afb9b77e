"""Several runs on one page: ranked where that is fair, told apart by their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avil_fast.errors import AvilError
from avil_fast.report import several
from avil_fast.report.run import FinishedRun
from tests.report.test_page import EVIL, Reader, make


def run(
    path: str, tasks: list[str] | None = None, rounds: int = 3, settings: Any = None, **summary: Any
) -> FinishedRun:
    own, history = make(tasks or ["a", "b"], rounds)
    return FinishedRun(Path(path), own | summary, history, f"rounds: {rounds}\n", settings or {"rounds": rounds})


def render(*runs: FinishedRun) -> Reader:
    return Reader(several.render(runs))


def test_the_best_run_comes_first_and_the_others_beside_it() -> None:
    text = render(
        run("x/one", test_metric=0.7), run("x/two", test_metric=0.8), run("x/three", test_metric=0.75)
    ).text
    assert "a, test accuracy: two is the best of 3 runs 80.0 %" in text
    assert text.index("three reached 75.0 %: 5.0 points lower.") < text.index(
        "one reached 70.0 %: 10.0 points lower."
    )


def test_of_an_error_the_lowest_is_the_best() -> None:
    metric = {"name": "mse", "higher_is_better": False, "percent": False}
    runs = [run(name, metric=metric, test_metric=value) for name, value in (("one", 2.5), ("two", 1.5))]
    text = render(*runs).text
    assert "two is the best of 2 runs 1.500" in text
    assert "one reached 2.500: 1.000 higher." in text
    assert "Lower is better." in text


def test_runs_that_look_the_same_are_the_best_together() -> None:
    text = render(run("one", test_metric=0.8), run("two", test_metric=0.80001), run("three", test_metric=0.7)).text
    assert "two, one are the best of 3 runs" in text
    assert "both runs are equal" in render(run("one"), run("two")).text


def test_what_all_runs_have_decides() -> None:
    assert "dev accuracy" in render(run("one"), run("two", test_metric=None)).text.partition("Results")[0]


def test_a_dev_set_that_some_were_trained_on_decides_nothing() -> None:
    runs = [run("one", test_metric=None), run("two", test_metric=None, dev_metric=0.99, dev_held_out=False)]
    text = render(*runs).text
    assert "Some were trained on the dev set, and not all have a test set, so they are not ranked." in text
    assert "best of" not in text
    by_test = [run("one", test_metric=0.7, dev_held_out=False), run("two", test_metric=0.8)]
    assert "two is the best of 2 runs" in render(*by_test).text


def test_other_targets_are_shown_without_a_ranking() -> None:
    text = render(run("one"), run("two", ["c", "b"])).text
    assert "Their targets differ (a, c), so they are not ranked." in text
    assert "best of" not in text
    assert "Dev accuracy of a" in text
    assert "Dev accuracy of c" in text


def test_other_metrics_are_shown_without_a_ranking() -> None:
    f1 = {"name": "f1", "higher_is_better": True, "percent": True}
    text = render(run("one"), run("two", metric=f1)).text
    assert "Their metrics differ (accuracy, f1), so they are not ranked." in text
    assert "78.5 % accuracy78.5 % f1" in text


def test_only_settings_that_differ_are_told() -> None:
    one = run("one", settings={"rounds": 3, "alpha": {"lr": 0.1}, "seed": 0, "output_dir": "one"})
    two = run(
        "two", settings={"rounds": 3, "alpha": {"lr": 0.2}, "tasks": {"dev": 9}, "seed": 0, "output_dir": "2"}
    )
    text = render(one, two).text.partition("Settings that differ")[2].partition("Configurations")[0]
    assert "alpha.lr 0.10.2 tasks.dev –9" in text.replace("alpha.lr0", "alpha.lr 0").replace(
        "tasks.dev–", "tasks.dev –"
    )
    assert "seed" not in text
    assert "output_dir" not in text
    assert "The runs use different task settings" in render(one, two).text
    assert (
        "The runs use different task settings"
        not in render(one, one.__class__(**vars(one) | {"path": Path("x")})).text
    )


def test_where_dev_was_trained_on_the_target_is_shown_on_test() -> None:
    def settled(path: str) -> FinishedRun:
        own = run(path)
        for row in own.history[1:]:
            row |= {"dev_held_out": False, "share": {"a": 1.0, "b": 0.5}, "cosine": []}
        return own

    runs = [settled("one"), settled("two")]
    text = render(*runs).text
    assert "Test accuracy of a" in text
    assert "Dev accuracy of a" not in text
    assert "once α is settled, tasks train together, and their steps follow from it." in text
    for row in runs[0].history:
        row["test_metric"] = None
    text = render(*runs).text
    assert "accuracy of a" not in text
    assert "Round by round" not in text
    assert "The share of each task's delta that was merged. " in render(run("one"), run("two")).text


def test_every_task_of_any_run_has_a_plot_of_its_alpha() -> None:
    reader = render(run("one", ["a", "b"], rounds=2), run("two", ["a", "c"], rounds=5))
    labels = [str(tag["aria-label"]) for name, tag in reader.tags if name == "svg" and "aria-label" in tag]
    assert [label.partition(" by round")[0] for label in labels] == [
        "Dev accuracy of a",
        "α of a",
        "α of b",
        "α of c",
    ]
    assert "c two" in " ".join(labels[3].split("of ")[1:]) or "two" in labels[3]


def test_folders_of_one_name_are_told_apart() -> None:
    text = render(run("june/digits", test_metric=0.9), run("july/digits")).text
    assert "june/digits is the best of 2 runs" in text
    with pytest.raises(AvilError, match=r"'june/digits' is named twice; name each run once"):
        several.render([run("june/digits"), run("june/digits")])


def test_runs_that_do_not_tell_benefits_have_no_table_of_them() -> None:
    assert "Immediate gain by task" in render(run("one"), run("two", benefit={})).text
    assert "Immediate gain by task" not in render(run("one", benefit={}), run("two", benefit={"a": None})).text


def test_names_stay_text_and_nothing_is_loaded() -> None:
    html = several.render([run("one", [EVIL, "b"]), run("</title><b>", [EVIL, "b"])])
    assert "<script" not in html
    assert not {tag for tag, _ in Reader(html).tags} & {"script", "link", "img", "iframe", "object"}
    ids = [attributes["id"] for _, attributes in Reader(html).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
