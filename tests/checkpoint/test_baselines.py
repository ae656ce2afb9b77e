"""A run from a file, with its baseline: stopped in either, longer, with other settings, over another run."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.saver import Saver
from avil_fast.errors import AvilError, Diverged, Stopped
from avil_fast.methods import loop
from avil_fast.methods.single import Single
from avil_fast.report.place import MARK
from avil_fast.run import launch

SMALL = [
    "rounds=2",
    "steps_per_task=2",
    "alpha.steps=2",
    "alpha.rounds=1",
    "alpha.settled=merge",
    "finetune.epochs=1",
    "tasks.train=20",
    "tasks.auxiliary_train=20",
    "tasks.dev=10",
    "tasks.test=10",
    "device=cpu",
    "checkpoints.minutes=0",
]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rounds that baselines have trained."""
    rounds: list[int] = []
    original = Single.round

    def counted(self: Single, round_: int) -> Any:
        rounds.append(round_)
        return original(self, round_)

    monkeypatch.setattr(Single, "round", counted)
    return rounds


def train(folder: Path, *more: str, resume: Any = None) -> dict[str, Any]:
    summary = launch.train(None, [*SMALL, f"output_dir={folder}", *more], resume=resume).summary
    kept = ("dev_loss", "test_metric", "alpha_mean", "steps")
    baselines = {name: {key: found[key] for key in kept} for name, found in summary["baselines"].items()}
    return {key: summary[key] for key in kept} | {"baselines": baselines}


def stop_at(number: int, monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str, resume: Any = None) -> None:
    """Train until the `number`-th point, counted over baseline and run."""
    count, point = [0], Saver.point

    def stopping(self: Saver, state: Any) -> None:
        count[0] += 1
        if count[0] == number:
            signal.raise_signal(signal.SIGTERM)
        point(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "point", stopping)
        with pytest.raises(Stopped, match="go on with --resume auto"):
            train(folder, *more, resume=resume)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WORLD_SIZE", raising=False)
        return train(tmp_path_factory.mktemp("whole") / "run")


def test_stopped_in_the_baseline_and_in_the_run_it_ends_the_same(
    expected: dict[str, Any], trained: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    stop_at(10, monkeypatch, folder)  # in the second round of the baseline
    assert trained == [1, 2]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["single_all"]
    told = "stopped in its baselines and has no checkpoint of its own; give --resume auto"
    with pytest.raises(AvilError, match=told):
        train(tmp_path / "elsewhere", resume=folder)
    stop_at(20, monkeypatch, folder, resume="auto")
    assert trained == [1, 2, 2]
    assert not (folder / "checkpoints" / "single_all").exists()
    assert train(folder, resume="auto") == expected
    assert trained == [1, 2, 2]


@pytest.mark.slow
def test_a_longer_run_is_compared_with_a_longer_baseline(tmp_path: Path) -> None:
    train(tmp_path / "run")
    with pytest.warns(UserWarning, match="the run has another length now, so its baselines are run again"):
        longer = train(tmp_path / "run", "rounds=4", resume="auto")
    assert longer == train(tmp_path / "whole", "rounds=4")
    assert not (tmp_path / "run" / "checkpoints" / "single_all").exists()


@pytest.mark.slow
def test_a_longer_run_does_not_hold_out_again_what_it_has_trained_on(tmp_path: Path) -> None:
    more = ["baselines=[]", "alpha.rounds=auto"]
    train(tmp_path / "run", *more, "rounds=6")
    train(tmp_path / "run", *more, "rounds=9", resume="auto")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["dev_held_out"] for line in lines] == [True] * 2 + [False] * 7
    train(tmp_path / "whole", *more, "rounds=9")
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["dev_held_out"] for line in lines] == [True] * 3 + [False] * 6


def test_other_settings_are_refused_before_the_baseline_is_trained(
    trained: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(30, monkeypatch, tmp_path / "run", "baselines=[]")
    with pytest.raises(AvilError, match=r"made with other settings: optimizer\.lr is 0\.5 and was 0\.001"):
        train(tmp_path / "run", "optimizer.lr=0.5", resume="auto")
    assert trained == []


def test_a_baseline_with_other_settings_starts_anew(
    expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(5, monkeypatch, tmp_path / "run", "seed=4")
    with pytest.warns(UserWarning, match="single_all starts anew, as its checkpoint has seed is 0 and was 4"):
        assert train(tmp_path / "run", resume="auto") == expected


def test_a_finished_run_that_goes_on_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "run", "baselines=[]")
    stop_at(5, monkeypatch, tmp_path / "run", "baselines=[]", "rounds=4", resume="auto")
    assert not (tmp_path / "run" / "summary.json").exists()
    train(tmp_path / "run", "baselines=[]", "rounds=4", resume="auto")
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["rounds"] == 4


def test_a_run_that_was_stopped_comes_back_if_the_one_over_it_is_killed_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new run over it has set it aside and was killed before it saved anything."""
    folder = tmp_path / "run"
    stop_at(30, monkeypatch, folder, "baselines=[]")
    shutil.move(folder, tmp_path / "run.previous")
    folder.mkdir()
    (folder / "config.yaml").write_text(MARK, encoding="utf-8")
    with pytest.raises(AvilError, match=r"run.previous' holds a run that a new one set aside"):
        train(folder, "baselines=[]", resume="auto")
    assert Folder(tmp_path / "run.previous" / "checkpoints").all()


def test_a_path_within_the_folder_that_would_be_replaced_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, "baselines=[]")
    inner = folder / "checkpoints" / "single" / "checkpoint-000001"
    shutil.copytree(Folder(folder / "checkpoints").all()[-1], inner)
    with pytest.raises(AvilError, match="which is no checkpoint of the run in output_dir"):
        train(folder, "overwrite=true", resume=inner)
    assert inner.exists()


def test_taken_up_elsewhere_it_is_found_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(30, monkeypatch, tmp_path / "one", "baselines=[]")
    (path,) = Folder(tmp_path / "one" / "checkpoints").all()[-1:]
    stop_at(1, monkeypatch, tmp_path / "two", "baselines=[]", "checkpoints.minutes=9", resume=path)
    assert len(Folder(tmp_path / "two" / "checkpoints").all()) == 2


def test_a_signal_after_the_last_point_of_a_baseline_stops_the_run(
    expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, count = loop.measure_target, [0]

    def stopping(*arguments: Any) -> Any:
        count[0] += 1
        if count[0] == 3:  # after two rounds and the fine-tune
            signal.raise_signal(signal.SIGTERM)
        return measure(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "measure_target", stopping)
        with pytest.raises(Stopped, match="go on with --resume auto"):
            train(tmp_path / "run")
    assert train(tmp_path / "run", resume="auto") == expected


def test_a_baseline_that_diverges_is_named(tmp_path: Path) -> None:
    wild = ["optimizer.name=sgd", "optimizer.lr=1e30", "steps_per_task=6", "alpha.rounds=null"]
    told = r"^the baseline single: task 'upper_left': its last 5 steps .*; baselines=\[\] trains without it$"
    with pytest.raises(Diverged, match=told):
        train(tmp_path / "run", *wild)
