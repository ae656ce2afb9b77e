"""A device that lacks the memory for a cell, or a run that is cut off, costs no more than what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import kernels
from benchmarks.buffers import Buffers

SMALL = {"numel": "4096", "repeats": "1", "op": "delta_dots", "codec": "fp8", "against": "dot"}


def run(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    options = [text for name, value in SMALL.items() for text in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["kernels", *options, "--n", "2", "3", "--json", str(path)])
    kernels.main()


@pytest.mark.slow
def test_a_cell_that_does_not_fit_is_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(codec: str, n: int, *rest: object) -> Buffers:
        if n == 2:
            raise torch.OutOfMemoryError
        return kept(codec, n, *rest)

    kept = kernels.make
    monkeypatch.setattr(kernels, "make", make)
    run(monkeypatch, tmp_path / "figures.json")
    assert "delta_dots     fp8     2 skipped: cpu lacks the memory" in capsys.readouterr().out
    assert [row["n"] for row in json.loads((tmp_path / "figures.json").read_text())["rows"]] == [3]


def test_an_alternative_that_does_not_fit_gets_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(b: Buffers) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(kernels, "alternatives", lambda name, codec: {"hungry": hungry})
    row = kernels.measure("delta_dots", "fp8", 2, 4096, torch.device("cpu"), 1)
    assert row.ratios == {}


def test_a_run_that_is_cut_off_keeps_what_it_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def measure(name: str, codec: str, n: int, *rest: object) -> kernels.Row:
        if n == 3:
            raise KeyboardInterrupt
        return kept(name, codec, n, *rest)

    kept = kernels.measure
    monkeypatch.setattr(kernels, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, tmp_path / "figures.json")
    assert [row["n"] for row in json.loads((tmp_path / "figures.json").read_text())["rows"]] == [2]
