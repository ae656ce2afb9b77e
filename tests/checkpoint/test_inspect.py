"""avil-fast inspect, and what the commands say of --resume."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from avil_fast import cli
from avil_fast.checkpoint.folder import Folder
from tests.checkpoint.runs import EVERY_POINT, fit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    fit(folder, **EVERY_POINT)
    for path in Folder(folder / "checkpoints").all()[29:]:
        shutil.rmtree(path)
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["avil-fast", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_it_tells_what_the_newest_checkpoint_of_a_run_is(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "inspect", str(run)) == 0
    told = capsys.readouterr().out
    for text in (
        "checkpoint-000029",
        "avil for t, with a, b",
        "round 2, α, step 0, of 3 rounds",
        "1 process, local",
        "deltas",
        "optimizer",
        "best model",
        "│ whole      │ yes",
    ):
        assert text in told, told


def test_it_tells_whether_the_run_is_finished(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run's folder; of a checkpoint there is no telling."""
    command(monkeypatch, "inspect", str(run))
    assert f"the run is finished; its report: {run / 'report.html'}\n" in capsys.readouterr().out
    stopped = Path(shutil.copytree(run, tmp_path / "stopped"))
    (stopped / "summary.json").unlink()
    command(monkeypatch, "inspect", str(stopped))
    told = capsys.readouterr().out
    assert f"the run is not finished; go on with: fit(..., output_dir='{stopped}', resume='auto')\n" in told
    for path, finished in ((run, True), (stopped, False), (Folder(run / "checkpoints").all()[-1], None)):
        command(monkeypatch, "inspect", str(path), "--json")
        assert json.loads(capsys.readouterr().out)["finished"] is finished
    command(monkeypatch, "inspect", str(Folder(run / "checkpoints").all()[-1]))
    assert "finished" not in capsys.readouterr().out


def test_the_command_that_goes_on_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also from another folder than that where the run was started."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    small = ["rounds=1", "finetune.epochs=0", "steps_per_task=1", "alpha.steps=1", "tasks.train=8", "tasks.dev=8"]
    small += ["tasks.auxiliary_train=8", "tasks.test=8", "baselines=[]", "device=cpu", "output_dir=my run"]
    assert command(monkeypatch, "train", *small) == 0
    Path("my run/summary.json").unlink()
    capsys.readouterr()
    for folder, elsewhere in (("my run", ""), ("../my run", "'output_dir=../my run' ")):
        monkeypatch.chdir(tmp_path / ("elsewhere" if elsewhere else "."))
        assert command(monkeypatch, "inspect", folder) == 0
        told = capsys.readouterr().out.splitlines()[-1].partition("go on with: ")[2]
        assert told == f"avil-fast train '{folder}/config.yaml' {elsewhere}--resume auto"
    assert command(monkeypatch, *shlex.split(told)[1:]) == 0
    assert "going on from ../my run/checkpoints/checkpoint-000001: round 1" in capsys.readouterr().out
    assert (tmp_path / "my run" / "summary.json").is_file()


def test_its_sizes_add_up(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = Folder(run / "checkpoints").all()[-1]
    assert command(monkeypatch, "inspect", str(path), "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    shared, head = 5 * 9 + 9 + 2 * 9 + 9 * 7 + 7, 7 * 3 + 3
    parts = found["bytes_by_part"]
    assert parts["θ"] == 4 * (shared + 3 * head)
    assert parts["deltas"] == 4 * (3 * shared + head)
    assert parts["optimizer"] == 2 * 4 * 3 * (shared + head)
    assert parts["best model"] == 4 * (shared + 3 * head)
    files = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    assert found["bytes"] == files
    assert sum(parts.values()) <= files
    assert found["where"] == {"round": 2, "phase": "α", "step": 0}  # the first round has a point for its benefits
    assert found["damage"] == []
    assert command(monkeypatch, "inspect", "--no-check", str(path)) == 0
    assert "contents were not checked" in capsys.readouterr().out


def test_every_damaged_file_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copytree(Folder(run / "checkpoints").all()[-1], tmp_path / "copy"))
    for name in ("rank-00000.safetensors", "best-00000.safetensors"):
        content = bytearray((path / name).read_bytes())
        content[-5] ^= 1
        (path / name).write_bytes(content)
    assert command(monkeypatch, "inspect", str(path)) == 2
    out, err = capsys.readouterr()
    assert "│ whole      │ no" in out
    assert err.count("is damaged: bytes 0 to ") == 2
    assert "; go on from another checkpoint with --resume auto" in err
    (path / "rank-00000.safetensors").unlink()
    assert command(monkeypatch, "inspect", "--no-check", str(path)) == 2
    assert "rank-00000.safetensors' cannot be read: No such file" in capsys.readouterr().err
    (path / "manifest.json").write_text("{}", encoding="utf-8")
    assert command(monkeypatch, "inspect", str(path)) == 2
    assert "not what was written; go on from another checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["inspect", "nowhere"], "'nowhere' is no checkpoint and holds none; name a folder such as"),
        (
            ["train", "--resume", "nowhere"],
            "--resume is 'nowhere', but there is no such path; name a run's folder or a checkpoint, or",
        ),
        (["train", "--resume", "."], "--resume is '.', which is no checkpoint and holds none; name a folder such"),
    ],
)
def test_a_path_that_holds_none_is_told(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.startswith(f"avil-fast: {told}")
    assert not [*tmp_path.iterdir()]
