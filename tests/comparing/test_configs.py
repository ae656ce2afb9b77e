"""`avil-fast compare` of configs: a run that diverges is told, and the page has the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from avil_fast.comparing.configs import compare
from avil_fast.console import Console
from avil_fast.errors import AvilError
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
