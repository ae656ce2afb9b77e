"""A run's folder is read as it stands, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from avil_fast.errors import AvilError
from avil_fast.report import page
from avil_fast.report.run import read
from tests.report.test_page import make


def write(folder: Path, summary: Any = None, rows: Any = None, config: str = "rounds: 3\n") -> Path:
    """The folder of a finished run."""
    given, history = make(["a", "b"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(given if summary is None else summary), encoding="utf-8")
    lines = [json.dumps(row) + "\n" for row in (history if rows is None else rows)]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_what_is_read_makes_the_page_that_the_run_made(tmp_path: Path) -> None:
    run = read(write(tmp_path / "digits"))
    assert run.label == "digits"
    assert run.settings == {"rounds": 3}
    summary, history = make(["a", "b"])
    assert page.render(run.summary, run.history, run.config) == page.render(summary, history, "rounds: 3\n")


def test_a_run_of_an_older_version_is_read(tmp_path: Path) -> None:
    summary, history = make(["a", "b"])
    for one in (summary, summary["baselines"]["single"]):
        for key in ("benefit", "metric", "memory", "ranks"):
            one.pop(key)
    for row in history:
        del row["benefit"]
    run = read(write(tmp_path / "old", summary, history))
    assert "<h1>" in page.render(run.summary, run.history, run.config)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(AvilError, match=r"is no run: it has no config\.yaml; name a run's folder"):
            read(folder)


def test_a_run_that_is_not_finished_says_how_to_go_on(tmp_path: Path) -> None:
    folder = write(tmp_path / "half")
    (folder / "summary.json").unlink()
    with pytest.raises(AvilError, match=r"not finished: it has no summary\.json; train it again"):
        read(folder)
    checkpoint = folder / "checkpoints" / "single" / "checkpoint-000001"
    checkpoint.mkdir(parents=True)
    with pytest.raises(AvilError, match="train it again"):
        read(folder)
    (checkpoint / "manifest.json").touch()
    with pytest.raises(AvilError, match=r"go on with: avil-fast train \S+half/config\.yaml --resume auto"):
        read(folder)


SUMMARY, HISTORY = make(["a", "b"])


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("summary.json", "{", r"Expecting property name"),
        ("summary.json", "[]", r"valid dictionary"),
        ("summary.json", "[" * 100_000, r"recursion"),
        ("summary.json", '{"name": "another tool"}', r"dev_loss: Field required"),
        ("summary.json", json.dumps(SUMMARY | {"target": "c"}), r"its target 'c' is none of its tasks"),
        ("summary.json", json.dumps(SUMMARY | {"dev_loss": float("nan")}), r"dev_loss: Input should be a finite"),
        ("summary.json", json.dumps(SUMMARY | {"steps": {"a": "many"}}), r"steps\.a: Input should be a valid int"),
        ("summary.json", json.dumps(SUMMARY | {"best_round": 9}), r"it has no line of round 9, which was kept"),
        ("metrics.jsonl", "", r"it has no line of round 3, which was kept"),
        ("metrics.jsonl", json.dumps(HISTORY[0]) + '\n{"round": 2, "al', r"line 2: Unterminated string"),
        ("metrics.jsonl", json.dumps(HISTORY[2] | {"cosine": [[1.0], [0.5]]}), r"of round 3 are no square"),
        ("config.yaml", "rounds: [", r"while parsing"),
        ("config.yaml", "rounds", r"it holds a str, but must hold settings"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, text: str, problem: str) -> None:
    folder = write(tmp_path / "run")
    (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(AvilError, match=problem) as error:
        read(folder)
    named = "metrics.jsonl" if "no line of round" in problem else file
    assert f"{named}' is damaged" in str(error.value)
    assert "train it again" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    (folder / "summary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AvilError, match=r"summary\.json' is damaged \(it is not UTF-8 text\)"):
        read(folder)
