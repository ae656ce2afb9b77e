"""`avil-fast compare --methods`: every method with every seed, once."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from avil_fast.comparing.comparison import compared
from avil_fast.comparing.entrants import parse
from avil_fast.comparing.finished import how_it_diverged, note_divergence
from avil_fast.comparing.over_seeds import FromFile, compare
from avil_fast.comparing.page import render, results, sentences
from avil_fast.errors import AvilError

pytestmark = pytest.mark.xdist_group("comparing")  # which shares its runs

TINY = [
    "rounds=2",
    "alpha.rounds=1",
    "steps_per_task=2",
    "finetune.epochs=0",
    "tasks.train=20",
    "tasks.auxiliary_train=20",
    "tasks.dev=20",
    "tasks.test=20",
    "alpha.steps=2",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("compared") / "runs"
    told: list[tuple[str, int, int, int]] = []
    entrants = parse("avil,single,multitask:options.sampling=proportional")
    found = compare(FromFile(), TINY, entrants, 2, to, 2, lambda *row: told.append(row))
    assert sorted(told, key=lambda row: row[2])[-1][2:] == (6, 6)
    assert found.seeds == [0, 1]
    return to


def test_what_is_found_is_in_the_folder(folder: Path) -> None:
    found = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert list(found["methods"]) == ["avil", "single", "multitask:options.sampling=proportional"]
    for name, place in (("avil", "avil"), ("single", "single")):
        own = found["methods"][name]
        for seed in (0, 1):
            summary = json.loads((folder / place / f"seed-{seed}" / "summary.json").read_text(encoding="utf-8"))
            assert own["values"][seed] == summary["test_metric"]
            assert summary["seed"] == seed
            assert summary["method"] == name
    with (folder / "comparison.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert float(rows[0]["test_metric"]) == found["methods"]["avil"]["values"][0]
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert "multitask:options.sampling=proportional" in page


def test_the_budget_is_counted(folder: Path) -> None:
    found = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["methods"]
    avil, single = found["avil"]["budget"], found["single"]["budget"]
    assert avil["target"] + avil["auxiliary"] == single["target"] == 2 * 4 * 2 * 32
    assert (avil["target"], single["auxiliary"]) == (2 * 2 * 32, 0)
    # Of a round with α: two steps, the point for the benefit, its measurement; a round without; one at the end.
    assert avil["dev"] == (2 + 1 + 1) + 1 + 1
    assert single["dev"] == 2 + 1
    assert avil["cpu_seconds"] > 0
    least = 1e7 if torch.cuda.is_available() else 1e8  # torch's tensors on a GPU, or the whole process
    assert least < avil["peak_bytes"] < 1e10


def test_what_is_done_is_not_done_again_and_more_seeds_are_added(folder: Path) -> None:
    before = (folder / "avil" / "seed-0" / "summary.json").stat().st_mtime_ns
    told: list[str] = []
    found = compare(FromFile(), TINY, parse("single,avil"), 3, folder, 2, lambda name, *_: told.append(name))
    assert sorted(told) == ["avil", "single"]  # seed 2 of each
    assert found.seeds == [0, 1, 2]
    assert (folder / "avil" / "seed-0" / "summary.json").stat().st_mtime_ns == before
    with pytest.raises(
        AvilError, match=r"holds a finished run, but .*name another folder with --to, or remove it"
    ):
        compare(FromFile(), [*TINY, "alpha.lr=0.7"], parse("avil"), 1, folder, 1)


@pytest.mark.slow
def test_a_run_that_diverges_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    wild = "single:optimizer.name=sgd,optimizer.lr=1e30"
    found = compare(FromFile(), TINY, parse(f"{wild},avil"), 2, tmp_path, 2)
    assert "task 'upper_left': its last 5 steps up to step" in found.diverged[wild][0]
    assert all(map(math.isnan, found.values[wild]))
    assert found.ranked == ["avil", wild]
    kept = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))["methods"]
    assert kept[wild]["values"] == [None, None]
    assert kept[wild]["budget"] is None
    assert None not in kept["avil"]["values"]
    assert "2 of 2 diverged" in (tmp_path / "comparison.html").read_text(encoding="utf-8")
    told: list[str] = []
    compare(FromFile(), TINY, parse(f"{wild},avil"), 2, tmp_path, 2, lambda name, *_: told.append(name))
    assert told == []
    with pytest.raises(AvilError, match=r"every run diverged: task 'upper_left': its last 5 steps"):
        compare(FromFile(), TINY, parse(wild), 2, tmp_path, 2)


@pytest.mark.parametrize("override", ["output_dir=x", "method=single"])
def test_what_a_comparison_sets_cannot_be_set(override: str, tmp_path: Path) -> None:
    with pytest.raises(AvilError, match="but a comparison sets it itself; leave it out"):
        compare(FromFile(), [override], parse("avil"), 1, tmp_path)


@pytest.mark.slow
def test_a_comparison_that_is_stopped_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avil_fast.cli", "compare", "digits.yaml", *TINY, "rounds=300"]
    command += ["--methods", "avil", "--seeds", "1", "--to", "to"]
    (tmp_path / "digits.yaml").write_text("{}", encoding="utf-8")
    run = tmp_path / "to" / "avil" / "seed-0"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not ((run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").stat().st_size):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert "the same command goes on" in said
    assert process.returncode == 128 + signal.SIGINT
    assert list((run / "checkpoints").iterdir())
    done = len((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr
    rows = [json.loads(line)["round"] for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == list(range(1, 301))
    assert done < 300
    shutil.rmtree(tmp_path / "to")


def test_what_is_not_known_of_one_seed_is_null(tmp_path: Path) -> None:
    made = compared(
        {"avil": {0: SUMMARY}, "single": {0: SUMMARY | {"test_metric": 0.25}}}, [0], tmp_path, {}
    ).as_json()
    text = json.dumps(made, allow_nan=False)
    single = json.loads(text)["methods"]["single"]
    assert (single["sd"], single["p"], single["difference"]) == (None, None, -0.25)


def test_a_dev_set_that_was_trained_on_decides_nothing(tmp_path: Path) -> None:
    """Without a test set a method that trained on dev would be the best."""
    by_dev = SUMMARY | {"test_metric": None, "test_loss": None}
    runs = {
        name: {seed: by_dev | {"dev_metric": value + seed / 10, "dev_held_out": held_out} for seed in range(2)}
        for name, value, held_out in (("avil", 0.5, True), ("single", 0.4, True), ("single_all", 0.9, False))
    }
    made = compared(runs, [0, 1], tmp_path, {})
    assert made.measure.name == "dev accuracy"
    assert made.ranked == ["avil", "single", "single_all"]
    assert [row[1] for row in results(made).rows] == ["55.0 ± 7.1 %", "45.0 ± 7.1 %", "trained on"]
    assert [row[2] for row in results(made).rows] == ["single", "avil", "–"]
    assert dict(sentences(made))["single_all"].startswith("was trained on the dev set, by which the others are")
    told = {name: method["trained_on_dev"] for name, method in made.as_json()["methods"].items()}
    assert told == {"avil": False, "single": False, "single_all": True}
    assert "<b>avil</b> is the best of 2 methods over 2 seeds" in render(made)
    alone = render(compared({name: runs[name] for name in ("avil", "single_all")}, [0, 1], tmp_path, {}))
    assert "<b>avil</b> over 2 seeds" in alone
    assert "nan" not in alone
    both = compared({"single_all": runs["single_all"]}, [0, 1], tmp_path, {})
    assert (both.seen, both.measure.name) == ([], "dev accuracy (trained on)")


def test_of_a_method_that_always_diverged_nothing_is_said_but_that(tmp_path: Path) -> None:
    made = compared({"avil": {0: SUMMARY}, "single": {}}, [0], tmp_path, {"single": {0: "it diverged"}})
    assert dict(sentences(made)) == {"single": "diverged with every seed"}
    assert [row[2:] for row in results(made).rows] == [["–"] * 3] * 2
    assert "nan" not in render(made)


def test_two_seeds_are_no_test(tmp_path: Path) -> None:
    """Nor are three that differ by the same."""
    for seeds, why in ((2, "a test needs 3 seeds or more"), (3, "there is no test")):
        runs = {
            name: {seed: SUMMARY | {"test_metric": value} for seed in range(seeds)}
            for name, value in (("single", 1.0), ("avil", 0.49))
        }
        made = compared(runs, list(range(seeds)), tmp_path, {})
        assert dict(sentences(made))["single"] == f"+51.0 points against avil; {why}"
        assert [row[-1] for row in results(made).rows] == ["–", "–"]
        assert made.as_json()["methods"]["single"]["p"] is None


def test_a_run_that_diverged_with_other_settings_is_not_taken_for_this_one(tmp_path: Path) -> None:
    config = FromFile().config(["optimizer.lr=100"])
    note_divergence(tmp_path / "run", config, "it did")
    assert how_it_diverged(tmp_path / "run", config) == "it did"
    assert how_it_diverged(tmp_path / "another", config) is None
    with pytest.raises(AvilError, match=r"holds a run that diverged, but .*optimizer\.lr.*--to, or remove it"):
        how_it_diverged(tmp_path / "run", FromFile().config([]))
    (tmp_path / "run" / "diverged.json").write_text("{", encoding="utf-8")
    with pytest.raises(AvilError, match=r"diverged\.json' is damaged; remove it"):
        how_it_diverged(tmp_path / "run", config)


SUMMARY = {
    "target": "t",
    "metric": {"name": "accuracy", "higher_is_better": True, "percent": True},
    "dev_metric": 0.5,
    "dev_loss": 0.5,
    "test_metric": 0.5,
    "test_loss": 0.5,
    "dev_held_out": True,
    "examples_seen": {"t": 1},
    "dev_passes": 1,
    "cpu_seconds": 1.0,
    "memory": {"peak": 1},
}
