"""The command line as a user meets it: a good run, the schema, warnings."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avil_fast import cli
from avil_fast.config import Config

TINY = [
    "rounds=1",
    "finetune.epochs=0",
    "tasks.train=20",
    "tasks.auxiliary_train=20",
    "tasks.dev=10",
    "tasks.test=10",
    "device=cpu",
]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "WORLD_SIZE"} | {"OMP_NUM_THREADS": "1"}


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


def verb(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: str) -> int:
    """The exit code of a command, run in this process."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr("warnings.showwarning", None)  # main() sets it; this restores it
    monkeypatch.setattr(sys, "argv", ["avil-fast", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_train_ends_with_the_results_and_where_the_report_lies(tmp_path: Path) -> None:
    run = started(tmp_path, "-m", "avil_fast.train", *TINY)
    assert (run.returncode, run.stderr) == (0, "")
    assert "report: runs/digits/report.html" in run.stdout
    for word in ("avil", "single", "upper_left", "random_labels", "deltas", "memory beyond training: "):
        assert word in run.stdout
    summary = json.loads((tmp_path / "runs/digits/summary.json").read_text(encoding="utf-8"))
    assert list(summary["baselines"]) == ["single"]


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    run = started(tmp_path, "-m", "avil_fast.train", "rounds=0")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("avil-fast: ")
    assert len(run.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_schema_prints_the_schema_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(monkeypatch, cli.main, "schema") == 0
    assert json.loads(capsys.readouterr().out) == Config.model_json_schema()


def test_train_takes_a_file_and_overrides_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("{rounds: 3, seed: 5, output_dir: out, baselines: []}", encoding="utf-8")
    assert verb(monkeypatch, cli.main, "train", "run.yaml", *TINY) == 0
    summary = json.loads(Path("out/summary.json").read_text(encoding="utf-8"))
    assert (summary["rounds"], summary["seed"], summary["baselines"]) == (1, 5, {})
    assert "report: out/report.html" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_a_combination_known_to_fail_is_one_line_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verb(monkeypatch, cli.train_main, *TINY, "weights.rule=additive", "alpha.init=1/n", "baselines=[]") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("avil-fast: warning: alpha.init: 1/n")


VERBS = ["train", "schema", "prepare"]


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_is_there_for_every_verb(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(monkeypatch, cli.main, *arguments) == 0
    assert "Usage" in capsys.readouterr().out
