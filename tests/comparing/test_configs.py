"""`avil-fast compare` of configs: a run that diverges is told, and the page has the others."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from avil_fast.checkpoint.stop import Stop
from avil_fast.comparing import over_seeds
from avil_fast.comparing.configs import compare
from avil_fast.comparing.entrants import parse
from avil_fast.console import Console
from avil_fast.errors import AvilError, Stopped
from avil_fast.run.launch import train
from avil_fast.verbs.compare import _print_runs
from tests.comparing.test_over_seeds import TINY
from tests.report.test_page import Reader

SMALL = [*TINY, "rounds=1", "alpha.rounds=null", "baselines=[]", "log.tensorboard=false"]
WILD = "{optimizer: {name: sgd, lr: 1.0e+30}, steps_per_task: 6}"
"""Its losses are infinite from the second step on, and five of those in a row end a run."""


def test_a_run_that_diverges_does_not_end_the_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wild.yaml").write_text(WILD, encoding="utf-8")
    (tmp_path / "calm.yaml").write_text("{}", encoding="utf-8")
    configs, to = [tmp_path / "wild.yaml", tmp_path / "calm.yaml"], tmp_path / "to"
    overrides = [setting for setting in SMALL if not setting.startswith("steps_per_task")]
    found = compare(configs, overrides, to, quiet=True)
    assert list(found.runs) == ["calm"]
    assert list(found.diverged) == ["wild"]
    assert "its last 5 steps up to step" in found.diverged["wild"]
    text = Reader(found.report.read_text(encoding="utf-8")).text
    assert "calm alone did not diverge" in text
    assert "wild diverged: task 'upper_left': its last 5 steps up to step" in text
    _print_runs(Console(), found)
    printed = capsys.readouterr().out
    assert "wild diverged: task 'upper_left': its last 5 steps up to step" in printed
    assert f"report: {found.report}" in printed
    before = (to / "calm" / "summary.json").stat().st_mtime_ns
    assert compare(configs, overrides, to, quiet=True).diverged == found.diverged  # known, and not tried again
    assert (to / "calm" / "summary.json").stat().st_mtime_ns == before
    (tmp_path / "wilder.yaml").write_text(WILD, encoding="utf-8")
    with pytest.raises(AvilError, match="every run diverged: task 'upper_left': its last 5 steps"):
        compare([configs[0], tmp_path / "wilder.yaml"], overrides, to, quiet=True)


def test_a_run_s_own_folder_does_not_become_a_comparison_s(tmp_path: Path) -> None:
    """Its report would be that of the comparison then."""
    configs = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    for path in configs:
        path.write_text("{}", encoding="utf-8")
    run = tmp_path / "run"
    train(None, [*SMALL, f"output_dir={run}"], quiet=True)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for way in (
        lambda: compare(configs, SMALL, run, quiet=True),
        lambda: over_seeds.compare(over_seeds.FromFile(), SMALL, parse("avil"), 1, run),
    ):
        with pytest.raises(AvilError, match="which is a run's folder; name another"):
            way()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises(AvilError, match=r"--to is '.*one\.yaml', which is a file; name a folder"):
        compare(configs, SMALL, configs[0], quiet=True)
    with pytest.raises(AvilError, match="cannot be used: Not a directory"):
        compare(configs, SMALL, configs[0] / "to", quiet=True)


def test_a_comparison_that_is_stopped_says_how_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    for path in configs:
        path.write_text("{}", encoding="utf-8")
    monkeypatch.setattr(Stop, "signal", signal.SIGTERM)
    with pytest.raises(Stopped, match=r"saved as .*one/checkpoints/checkpoint-000001; the same command goes on$"):
        compare(configs, SMALL, tmp_path / "to", quiet=True)
    monkeypatch.undo()
    assert list(compare(configs, SMALL, tmp_path / "to", quiet=True).runs) == ["one", "two"]
