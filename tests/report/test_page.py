"""The report says what came out, for every kind of run, and loads nothing."""

from __future__ import annotations

import copy
import re
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from avil_fast.report import page

EVIL = '<script>alert("x")</script>'
CONFIG = "rounds: 3\ntasks:\n  source: digits\n"


def make(tasks: list[str], rounds: int = 3) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A summary and history as `train` hands them over; the first task is the target."""
    n = len(tasks)

    def row(round_: int) -> dict[str, Any]:
        return {
            "round": round_,
            "alpha": {name: 0.1 * round_ + i for i, name in enumerate(tasks)},
            "weight": {name: 1.0 + 0.2 * i for i, name in enumerate(tasks)},
            "delta_norm": dict.fromkeys(tasks, 1.0),
            "train_loss": dict.fromkeys(tasks, 0.5),
            "dev_loss": 1.0 / round_,
            "dev_metric": 0.2 * round_,
            "test_loss": 1.1 / round_,
            "test_metric": 0.19 * round_,
            "alpha_path": [[1.0 / n] * n] * 2,
            "benefit": {name: 0.3 - 0.2 * i for i, name in enumerate(tasks)},
            "cosine": [[1.0 if i == j else -0.1 * (i + j) for j in range(n)] for i in range(n)],
            "seconds": {"data": 0.1, "task_training": 0.5, "alpha_phase": 0.2, "delta_ops": 0.05,
                        "evaluation": 0.1, "total": 1.0},
        }  # fmt: skip

    history = [row(round_) for round_ in range(1, rounds + 1)]
    summary = {
        "method": "avil",
        "preset": "default",
        "target": tasks[0],
        "metric": {"name": "accuracy", "higher_is_better": True, "percent": True},
        "tasks": tasks,
        "seed": 0,
        "rounds": rounds,
        "best_round": rounds,
        "finetune_epoch": 1,
        "dev_loss": 0.4,
        "dev_metric": 0.8,
        "test_loss": 0.5,
        "test_metric": 0.785,
        "alpha_mean": {name: 0.2 + i for i, name in enumerate(tasks)},
        "benefit": {name: 0.9 - 0.6 * i for i, name in enumerate(tasks)},
        "alpha_last": history[-1]["alpha"],
        "weight_last": dict(zip(tasks, [1.5, 0.05, 1.0, 1.4], strict=False)),
        "influence": dict(zip(tasks, [1.5, 0.05, 1.0, 1.4], strict=False)),
        "steps": {name: 100 + i for i, name in enumerate(tasks)},
        "ranks": 1,
        "memory": {"base": 4_000_000, "bank": 8_000_000},
        "seconds": 3.5,
        "versions": {"avil_fast": "0.1.0", "torch": "2.9", "python": "3.11"},
    }
    single = copy.deepcopy(summary) | {
        "method": "single",
        "test_metric": 0.77,
        "test_loss": 0.75,
        "dev_metric": 0.81,
        "steps": {name: 310 if i == 0 else 0 for i, name in enumerate(tasks)},
        "baselines": {},
    }
    return summary | {"baselines": {"single": single}}, history


def drop(summary: dict[str, Any], history: list[dict[str, Any]], *keys: str) -> None:
    """Set results to None in the run, its baselines and its rounds."""
    for one in [summary, *summary["baselines"].values(), *history]:
        one.update(dict.fromkeys(keys))


class Reader(HTMLParser):
    """Collects what the tests ask of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._style = False
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.text += data


def render(summary: dict[str, Any], history: list[dict[str, Any]], config: str = CONFIG) -> Reader:
    return Reader(page.render(summary, history, config))


def test_answer_comes_first_with_the_baseline_beside_it() -> None:
    text = render(*make(["a", "b", "c", "d"])).text
    assert "a, test accuracy 78.5 %" in text
    assert "Baseline single reached 77.0 %: this run is 1.5 points higher." in text
    assert (
        "b gave an immediate gain: its updates lowered the target's dev loss by 0.30 over 3 rounds (the target's "
        "own lowered it by 0.90); its mean α is 1.20 and its final weight 0.05, so that it was hardly used."
    ) in text
    assert "c gave no immediate gain: its updates raised the target's dev loss by 0.30 over" in text
    assert "its mean α is 3.20 and its final weight 1.40, so that it was turned up." in text
    assert "avil-fast train config.yaml output_dir=again" in text
    assert "memory for θ4.0 MB4.0 MB" in text


@pytest.mark.parametrize(
    ("missing", "answer", "versus"),
    [
        (("test_metric", "test_loss"), "dev accuracy 80.0 %", "81.0 %: this run is 1.0 points lower"),
        (("test_metric", "dev_metric"), "test loss 0.500", "0.750: this run is 0.250 lower"),
        (("test_metric", "dev_metric", "test_loss"), "dev loss 0.400", "0.400: this run is equal"),
    ],
)
def test_falls_back_to_what_was_measured(missing: tuple[str, ...], answer: str, versus: str) -> None:
    summary, history = make(["a", "b"])
    drop(summary, history, *missing)
    text = render(summary, history).text
    assert answer in text
    assert versus in text


def test_dev_figures_count_as_long_as_dev_was_held_out() -> None:
    summary, history = make(["a", "b"])
    second = "240.0 %"  # the cells of round and dev in its row
    assert second in render(summary, history).text
    for row in (summary, history[1], history[2]):
        row["dev_held_out"] = False
    found = render(summary, history)
    assert "After round 1 the dev set was training data, too." in found.text
    assert "Dev only as long as it was held out." in found.text
    assert second not in found.text
    drop(summary, history, "test_metric", "test_loss")
    text = render(summary, history).text
    assert "dev accuracy (trained on) 80.0 %" in text
    assert "81.0 %: this run is not to be compared, as one of them was trained on the dev set." in text


@pytest.mark.parametrize(
    ("influence", "verdict"),
    [
        (0.0, "hardly used"),
        (0.25, "used in part"),
        (0.89, "used in part"),
        (0.9, "used in full"),
        (1.1, "turned up"),
    ],
)
def test_what_became_of_an_auxiliary(influence: float, verdict: str) -> None:
    summary, history = make(["a", "b"])
    summary["influence"]["b"] = influence
    assert (
        f"its mean α is 1.20 and its final weight 0.05, so that it was {verdict}." in render(summary, history).text
    )


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (0.0, "left out from then on"),
        (0.004, "trained for 1 % as many steps as the target"),
        (0.36, "trained for 36 % as many steps as the target"),
        (1.0, "trained for as many steps as the target"),
    ],
)
def test_what_became_of_an_auxiliary_once_alpha_was_settled(share: float, verdict: str) -> None:
    summary, history = make(["a", "b"])
    summary |= {"share_last": {"a": 1.0, "b": share}, "alpha_last": {"a": 1.0, "b": 0.18}}
    text = render(summary, history).text
    assert f"its α settled at 0.18 and its final weight 0.05, so that it was {verdict}." in text


@pytest.mark.parametrize(
    ("gain", "sentence"),
    [
        (0.21, "b gave an immediate gain: its updates lowered the target's dev loss by 0.21 over"),
        (0.08, "b did too little to tell: its updates lowered the target's dev loss by 0.080 over"),
        (0.01, "b did too little to tell: its updates lowered the target's dev loss by 0.010 over"),
        (-0.01, "b did too little to tell: its updates raised the target's dev loss by 0.010 over"),
        (-0.3456, "b gave no immediate gain: its updates raised the target's dev loss by 0.35 over"),
        (0.0, "b made no difference: its updates left the target's dev loss as it was; its mean α is 1.20"),
        (123.4, "b gave an immediate gain: its updates lowered the target's dev loss by 123 over"),
    ],
)
def test_by_how_much_an_auxiliary_helped(gain: float, sentence: str) -> None:
    summary, history = make(["a", "b"])
    summary["benefit"]["b"] = gain
    assert sentence in render(summary, history).text


def helped(summary: dict[str, Any], history: list[dict[str, Any]]) -> bool:
    html = page.render(summary, history, CONFIG)
    return '<em class="helped">gave an immediate gain</em>' in html


def by_round(benefits: list[float], own: list[float] | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run with these benefits of b, and of the target."""
    summary, history = make(["a", "b"], len(benefits))
    for row, benefit, of_target in zip(history, benefits, own or [0.3] * len(benefits), strict=True):
        row["benefit"] = {"a": of_target, "b": benefit}
    summary["benefit"] = {name: sum(row["benefit"][name] for row in history) for name in ("a", "b")}
    return summary, history


@pytest.mark.parametrize(
    ("benefits", "own", "is_praised"),
    [
        ([0.2, 0.25, 0.15, 0.2], None, True),
        ([0.9, -0.5, 0.6, -0.2], None, False),  # a mean of 0.2 with a standard error of 0.33
        ([0.02, 0.02, 0.02], None, False),  # steady, but a fifteenth of the target's own
        ([0.2], None, True),
        ([0.0034], [-0.01], False),
        ([0.2, 0.25, 0.15], [-0.1, -0.1, 0.0], False),  # the target's own raised the loss
    ],
)
def test_an_auxiliary_is_praised_only_for_a_clear_gain(
    benefits: list[float], own: list[float] | None, is_praised: bool
) -> None:
    run = by_round(benefits, own)
    assert helped(*run) == is_praised
    assert ("b did too little to tell:" in render(*run).text) != is_praised


def test_rounds_after_the_kept_one_do_not_count_and_one_round_is_named() -> None:
    summary, history = by_round([0.2, -0.9, -0.9])
    text = render(summary | {"best_round": 1, "benefit": history[0]["benefit"]}, history).text
    assert "b gave an immediate gain: its updates lowered the target's dev loss by 0.20 in round 1 (the" in text
    assert "In one round even a task of random labels may seem to gain" not in text  # α was learned in three
    summary, history = by_round([0.2, 0.2])
    history[1]["benefit"] = dict.fromkeys("ab")
    assert "In one round even a task of random labels may seem to gain" in render(summary, history).text


def test_a_run_from_python_shows_no_command_that_would_fail() -> None:
    text = render(*make(["a", "b"]), config="rounds: 3\ntarget: a\n").text
    assert "This run was started from Python: call it there again" in text
    assert "seed 0." in text
    assert "avil-fast train" not in text


def test_a_method_without_deltas_has_no_memory_for_them() -> None:
    assert "memory for deltas8.0 MB–" in render(*make(["a", "b"])).text


def test_a_long_name_in_a_heat_map_is_cut_in_the_middle() -> None:
    names = ["a", "a_rather_long_auxiliary_of_news", "a_rather_long_auxiliary_of_film"]
    html = page.render(*make(names), CONFIG)
    drawn = html[html.index("Cosines between") :]
    assert ">a_rather…_of_news</text>" in drawn
    assert ">a_rather…_of_film</text>" in drawn


def test_a_run_from_before_benefits_were_known_tells_alpha() -> None:
    summary, history = make(["a", "b"])
    for key in ("benefit", "memory", "ranks", "metric"):
        del summary[key]
    assert "b was hardly used: its mean α is 1.20 and its final weight 0.05." in render(summary, history).text


def test_weights_that_never_moved_are_not_told() -> None:
    summary, history = make(["a", "b"])
    for row in history:
        row["weight"] = {"a": 1.0, "b": 1.0}
    assert "its mean α is 1.20, so that it was hardly used." in render(summary, history).text


def test_many_ranks_are_started_again_as_many() -> None:
    summary, history = make(["a", "b"])
    text = render(summary | {"ranks": 4}, history).text
    assert "torchrun --nproc-per-node 4 -m avil_fast.train config.yaml output_dir=again" in text
    assert "memory for θ on each rank" in text


def test_weights_that_never_move_are_not_drawn() -> None:
    summary, history = make(["a", "b"])
    assert "Weights w" in render(summary, history).text
    for row in history:
        row["weight"] = {"a": 1.0, "b": 1.0}
    assert "Weights w" not in render(summary, history).text


def test_a_metric_beyond_one_is_no_percentage() -> None:
    summary, history = make(["a", "b"])
    summary["test_metric"] = 23.4
    assert "test accuracy 23.400" in render(summary, history).text


def test_values_in_mappings_may_be_none() -> None:
    summary, history = make(["a", "b"])
    summary["alpha_mean"]["b"] = summary["weight_last"]["b"] = summary["influence"]["b"] = None
    for row in history:
        row["alpha"]["b"] = row["weight"]["b"] = row["train_loss"]["b"] = None
    summary["benefit"]["b"] = None
    assert "b is an open question: its mean α is – and its final weight –." in render(summary, history).text


def test_single_without_baselines() -> None:
    summary, history = make(["a", "b"])
    summary = summary["baselines"]["single"]
    for row in history:
        row["alpha_path"], row["cosine"] = [], []
    reader = render(summary, history)
    assert "b was not trained." in reader.text
    assert "Baseline" not in reader.text
    assert "Agreement" not in reader.text


def test_one_task_and_one_round() -> None:
    reader = render(*make(["a"], rounds=1))
    assert "auxiliaries" not in reader.text
    assert "1 round;" in reader.text


def test_64_tasks() -> None:
    render(*make([f"task {i}" for i in range(64)], rounds=2))


@cache
def plain_tags() -> list[str]:
    return [tag for tag, _ in render(*make(["a", "b"])).tags]


@pytest.mark.parametrize("name", [EVIL, "$x^", "_hidden", "数字", 'a" onload="x', "--><b>", "#010203", "]]>&amp;"])
def test_any_task_name_stays_text(name: str) -> None:
    for tasks in (["a", name], [name, "a"]):
        summary, history = make(tasks)
        html = page.render(summary, history, f"target: {name}\ntasks: {{}}")
        reader = Reader(html)
        assert "<script" not in html
        assert [tag for tag, _ in reader.tags] == plain_tags()
        assert not any("onload" in attributes for _, attributes in reader.tags)
        assert name in reader.text


def test_loads_nothing() -> None:
    html = page.render(*make(["a", "b"]), "")
    assert not re.search(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", html))
    assert not re.search(r"@import|url\((?!#)", html)
    assert not {tag for tag, _ in Reader(html).tags} & {"script", "link", "img", "iframe", "object"}


def test_plots_have_labels_and_ids_of_their_own() -> None:
    reader = render(*make(["a", "b", "c"]))
    plots = [attributes for tag, attributes in reader.tags if tag == "svg" and "aria-hidden" not in attributes]
    assert len(plots) == 5
    tables = [attributes for tag, attributes in reader.tags if tag == "caption"]
    assert len(tables) == len(plots) + 1  # their numbers, and the budget
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [value for _, attributes in reader.tags for key, value in attributes.items() if key == "xlink:href"]
    assert {(value or "").removeprefix("#") for value in used} <= set(ids)
    assert all("scope" in attributes for tag, attributes in reader.tags if tag == "th")


def test_same_input_gives_same_bytes() -> None:
    assert page.render(*make(["a", "b"]), "x") == page.render(*make(["a", "b"]), "x")


def test_an_error_is_told_as_a_number_of_which_less_is_better() -> None:
    summary, history = make(["a", "b"])
    summary["metric"] = {"name": "mse", "higher_is_better": False, "percent": False}
    text = render(summary, history).text
    assert "test mse 0.785" in text
    assert "Lower is better." in text
    assert "Lower is better." not in render(*make(["a", "b"])).text


def test_characters_that_a_plot_has_no_glyph_for_are_drawn_by_the_browser() -> None:
    names = ["数字", "⠿", "a"]
    html = page.render(*make(names), "")
    drawn = html[html.index("Cosines between") :]
    for name in names:
        assert f">{name}</text>" in drawn


def test_alpha_of_layers_is_that_of_the_last_round_that_has_it() -> None:
    summary, history = make(["t", "a"])
    for round_, row in enumerate(history[:2], 1):
        row["alpha_layers"] = {f"layer.{i}": {"t": 1.0, "a": 0.1 * round_ + i} for i in range(40)}
    history[1]["alpha_layers"]["layer.3"]["a"] = None
    html = page.render(summary, history, "")
    assert "Round 2, the last in which tasks trained apart. Blue: what the task learned in this layer" in html
    rows = re.search(r'id="numbers-layers".*?</table>', html, re.DOTALL)
    assert rows is not None
    found = re.findall(r">(layer\.\d+)<.*?>([\d.–]+)<.*?>([\d.–]+)<", rows[0], re.DOTALL)
    assert found[1:4] == [("layer.1", "1.000", "1.200"), ("layer.2", "1.000", "2.200"), ("layer.3", "1.000", "–")]
    assert len(found) == 40
    assert "Coefficients α by layer" not in page.render(*make(["t", "a"]), "")


def test_an_alpha_of_one_round_is_shown_as_it_was_learned() -> None:
    summary, history = make(["a", "b"])
    for row in history[1:]:
        row |= {"share": {"a": 1.0, "b": 0.5}, "restarted": True, "alpha_path": [[1.0, 0.4]], "cosine": []}
    history[0]["alpha_path"] = [[1.0, 1.0], [1.25, 0.75]]
    html = page.render(summary, history, "rounds: 3\n")
    text = Reader(html).text
    assert "Learned in round 1, by descent on the target's dev loss; from then on tasks train together" in text
    table = re.search(r'id="numbers-alpha".*?</table>', html, re.DOTALL)
    assert table is not None
    cells = re.findall(r"<t[hd]\b[^>]*>([^<]*)</t[hd]>", table[0])
    assert cells == ["step", "a", "b", "0", "1.000", "1.000", "1", "1.250", "0.750"]
    history[1]["cosine"] = history[0]["cosine"]
    text = Reader(page.render(summary, history, "rounds: 3\n")).text
    assert "once α is settled, tasks train together, and their steps follow from it." in text
