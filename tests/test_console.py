"""The tables that the command ends with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from avil_fast.console import Console
from avil_fast.engine.clock import PARTS
from tests.report.test_page import make


def cells(out: str, name: str) -> list[str]:
    """Of the last row that begins with a name, and of the last head before the end."""
    row = [line for line in out.splitlines() if line.startswith(f"│ {name} ")][-1]
    return [cell.strip() for cell in row.strip("│").split("│")]


def shown(summary: dict[str, Any], history: list[dict[str, Any]]) -> None:
    for row in history:
        row["seconds"] = dict.fromkeys(PARTS, 0.1) | {"total": 1.0}
    found = SimpleNamespace(summary=summary, history=history, tasks=summary["tasks"], target=summary["target"])
    Console().result(cast(Any, found), None)


def test_what_is_no_terminal_gets_whole_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    head = [f"a column with a long name, {number}" for number in range(9)]
    row = [f"a cell {number} that is as long as this" for number in range(9)]
    console = Console()
    console.table(head, [row], title="a title")
    console.table(["a"], [["b"]], title="longer than its table")
    console.facts({"one": "word " * 40})
    out = capsys.readouterr().out
    for text in (*head, *row, "a title\n", "longer than its table\n", "word " * 40):
        assert text.strip(" ") in out
    assert max(map(len, out.splitlines())) < 500


def test_the_share_of_steps_stands_where_alpha_decided_it(capsys: pytest.CaptureFixture[str]) -> None:
    summary, history = make(["a", "b", "c"])
    for row in history:
        row["weight"] = dict.fromkeys("abc", 1.0)
    summary |= {"share_last": {"a": 1.0, "b": 0.6, "c": 0.0}, "weight_last": dict.fromkeys("abc", 1.0)}
    shown(summary, history)
    out = capsys.readouterr().out
    assert "share of steps" in out
    assert "final weight" not in out
    assert cells(out, "a")[2:] == ["62 %"]
    assert cells(out, "b")[2:] == ["38 %"]
    assert cells(out, "c")[2:] == ["0 %"]


def test_weights_stand_where_they_moved(capsys: pytest.CaptureFixture[str]) -> None:
    summary, history = make(["a", "b"])
    shown(summary | {"share_last": None}, history)
    out = capsys.readouterr().out
    assert "share of steps" not in out
    assert "final weight" in out
    assert cells(out, "b") == ["b", "1.20", "0.05"]
    shown(summary | {"share_last": {"a": 1.0, "b": 1.0}, "weight_last": {"a": 1.0, "b": 0.25}}, history)
    assert cells(capsys.readouterr().out, "b")[2:] == ["20 %", "0.25"]
