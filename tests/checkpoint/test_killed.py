"""Processes that are killed while they train or save, and what they say and save when they are told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.inspect import inspect
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.stop import noting
from avil_fast.errors import Stopped
from tests.checkpoint import runs
from tests.checkpoint.die import IN_BACKGROUND, MOMENTS
from tests.checkpoint.runs import EVERY_POINT, fit, found
from tests.engine.ranks.launch import free_port
from tests.engine.test_launch import ROOT, environment
from tests.speed import slow_but

pytestmark = pytest.mark.xdist_group("killed")


def processes(ranks: int, *arguments: str) -> list[int]:
    """Exit codes of ranks that run `die`; when one is killed, so are the others."""
    place = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "tests.checkpoint.die", *arguments]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment() | (place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        deadline = time.monotonic() + 120
        while all(process.poll() is None for process in started):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if any(process.poll() == -signal.SIGKILL for process in started):
            for process in started:
                process.kill()
        said = [process.communicate(timeout=60)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    codes = [process.returncode for process in started]
    assert set(codes) <= {0, -signal.SIGKILL}, "\n".join(said)
    return codes


@pytest.mark.parametrize("moment", slow_but("point", of=MOMENTS))
def test_killed_at_any_moment_a_run_comes_to_the_same_bits(moment: str, tmp_path: Path) -> None:
    number = "40" if moment in IN_BACKGROUND else "4"
    assert processes(1, moment, number, "0", str(tmp_path)) == [-signal.SIGKILL]
    for path in Folder(tmp_path / "run" / "checkpoints").all():
        assert not inspect(path).damage
    expected = found(fit(None, data="augmented"))
    assert found(fit(tmp_path / "run", data="augmented", resume="auto")) == expected


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What two ranks find."""
    return ends(tmp_path_factory.mktemp("whole"))


def ends(folder: Path) -> list[Any]:
    assert processes(2, "never", "0", "0", str(folder)) == [0, 0]
    return [json.loads((folder / f"found.{rank}").read_text(encoding="utf-8")) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "moment"),
    [
        (0, "point"),
        (0, "half a file"),
        (0, "before the name"),
        (1, "point"),
        (1, "half a file"),
        (1, "file written"),
    ],
)
def test_killed_on_either_rank_both_come_to_the_same_bits(
    victim: int, moment: str, undisturbed: list[Any], tmp_path: Path
) -> None:
    codes = processes(2, moment, "4", str(victim), str(tmp_path))
    assert codes[victim] == -signal.SIGKILL
    assert ends(tmp_path) == undisturbed


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Also where these tests run in the background of a shell, which has all its children ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_after_the_step_in_which_it_came(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [0]
    forward = runs.Net.forward

    def counted(self: runs.Net, x: Any, task: str) -> Any:
        steps[0] += self.training
        if self.training and steps[0] == 5:
            signal.raise_signal(number)
        return forward(self, x, task)

    monkeypatch.setattr(runs.Net, "forward", counted)
    with pytest.raises(
        Stopped, match=r"stopped by SIG.*; saved as .*checkpoint-000001; go on with resume='auto'"
    ) as stopped:
        fit(tmp_path / "run")
    assert stopped.value.code == code
    monkeypatch.undo()
    (path,) = Folder(tmp_path / "run" / "checkpoints").all()
    assert Manifest.read(path).where == {"round": 1, "phase": "training", "turn": 1, "task": "t", "step": 2}
    assert signal.getsignal(number) not in (None, signal.SIG_IGN)
    assert found(fit(tmp_path / "run", resume="auto")) == found(fit(None))


@pytest.mark.parametrize("saved", [False, True])
def test_a_second_interrupt_does_not_wait(
    saved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It tells what is lost, and what is not."""
    path = tmp_path / "run"
    if saved:
        fit(path, **EVERY_POINT | {"rounds": 1})
    capfd.readouterr()

    def forward(self: runs.Net, x: Any, task: str) -> Any:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(runs.Net, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        fit(path, resume="auto")
    last = Folder(path / "checkpoints").all()[-1] if saved else None
    assert capfd.readouterr().err.splitlines() == [
        "avil-fast: stopping after this step and saving; again: at once, without saving",
        "avil-fast: stopped without saving; "
        + (f"it can go on from {last}" if saved else "there is no checkpoint"),
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_under_a_launcher_the_first_rank_tells_once(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    with noting(Folder(tmp_path)) as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert stop.signal == signal.SIGTERM
    assert capfd.readouterr().err == ("" if rank else "avil-fast: stopping after this step and saving\n")


def test_a_handler_that_is_not_of_python_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a program that Python runs within: it could not be put back, and the run's end would be a TypeError."""
    known, set_handler, heard = signal.getsignal, signal.signal, []

    def record(number: int, handler: Any) -> Any:
        heard.append(number)
        return set_handler(number, handler)

    monkeypatch.setattr(signal, "getsignal", lambda n: None if n == signal.SIGTERM else known(n))
    monkeypatch.setattr(signal, "signal", record)
    with noting(Folder(tmp_path)):
        assert heard == [signal.SIGINT]
    assert heard == [signal.SIGINT] * 2


LONG = ["rounds=1000", "baselines=[]", "steps_per_task=2", "alpha.steps=2", "workers=2", "output_dir=run"]


def wait_for(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or (folder / "metrics.jsonl").read_text().count("\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_says_how_to_go_on(number: int, code: int, tmp_path: Path) -> None:
    """The signal reaches the processes that load data, too, as from a terminal."""
    train = str(ROOT / "avil_fast" / "train.py")
    process = start([sys.executable, train, *LONG], tmp_path)
    wait_for(tmp_path / "run", 2)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    name = signal.Signals(number).name
    assert err.splitlines() == [
        "avil-fast: stopping after this step and saving; again: at once, without saving",
        f"avil-fast: stopped by {name}; saved as run/checkpoints/checkpoint-000001; go on with --resume auto",
    ]
    done = (tmp_path / "run" / "metrics.jsonl").read_text().count("\n")
    refused = subprocess.run(
        [sys.executable, train, *LONG],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert (
        "holds a run that was stopped; go on with --resume auto, or start anew with overwrite=true"
        in refused.stderr
    )
    went_on = subprocess.run(
        [sys.executable, train, *LONG, f"rounds={done + 1}", "finetune.epochs=0", "--resume", "auto"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert went_on.returncode == 0, went_on.stderr
    assert "going on from run/checkpoints/checkpoint-000001: round " in went_on.stdout
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == done + 1


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_at_the_same_step(tmp_path: Path) -> None:
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(ROOT / "avil_fast" / "train.py"), *LONG[:-2], "output_dir=run"]
    ranks = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment() | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        wait_for(tmp_path / "run", 1)
        ranks[1].terminate()
        said = [rank.communicate(timeout=60)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [143, 143]
    assert (
        "".join(said).count(
            "stopped by SIGTERM; saved as run/checkpoints/checkpoint-000001; go on with --resume auto"
        )
        == 1
    )
    (path,) = Folder(tmp_path / "run" / "checkpoints").all()
    assert not inspect(path).damage
