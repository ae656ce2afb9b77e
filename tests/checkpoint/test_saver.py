"""Saving: when, how many are kept, and what happens where the disk is full."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avil_fast.checkpoint import pending, saver
from avil_fast.checkpoint.file_format import Record
from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.inspect import inspect
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.writing import Entry, write
from avil_fast.engine.state import Snapshot
from avil_fast.errors import AvilError
from tests.checkpoint import runs
from tests.checkpoint.runs import fit, found


def checkpoints(run: Path) -> list[Path]:
    return Folder(run / "checkpoints").all()


def test_a_short_run_saves_the_end_of_its_rounds_alone(tmp_path: Path) -> None:
    result = fit(tmp_path / "run")
    assert result.summary["checkpoints"]["saved"] == 1
    (path,) = checkpoints(tmp_path / "run")
    assert Manifest.read(path).where == {"round": 3, "phase": "round done"}


def test_a_run_that_is_to_save_nothing_does_not(tmp_path: Path) -> None:
    assert fit(tmp_path / "run", **{"checkpoints.minutes": None}).summary["checkpoints"]["saved"] == 0
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("background", [True, False])
def test_the_last_ones_are_kept(background: bool, tmp_path: Path) -> None:
    settings = {"checkpoints.minutes": 0, "checkpoints.keep": 3, "checkpoints.background": background}
    result = fit(tmp_path / "run", **settings)
    names = [path.name for path in checkpoints(tmp_path / "run")]
    saved = result.summary["checkpoints"]["saved"]
    assert names[-3:] == [f"checkpoint-{number:06}" for number in range(saved - 2, saved + 1)]
    assert [Manifest.read(tmp_path / "run" / "checkpoints" / name).lasting for name in names[:-3]] in ([], [True])
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == set(names)
    assert result.summary["checkpoints"]["bytes"] > 10_000


def test_saving_changes_nothing(tmp_path: Path) -> None:
    settings = {"data": "augmented", "alpha.dev_examples": 5}
    expected = found(fit(None, **settings))
    assert found(fit(tmp_path / "run", **settings, **{"checkpoints.minutes": 0})) == expected


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk holds nothing up, and what is written is the state at the point, not what it became."""
    release = threading.Event()

    def slowly(path: Path, entries: list[Entry]) -> Record:
        assert release.wait(60)
        return write(path, entries)

    monkeypatch.setattr(pending, "write", slowly)
    rounds: list[int] = []

    class Watched(saver.Saver):
        def point(self, state: Any) -> None:
            super().point(state)
            where = state().where
            rounds.append(where["round"])
            if where["round"] == 2:
                release.set()

    monkeypatch.setattr("avil_fast.run.checkpointed.Saver", Watched)
    fit(tmp_path / "run", **{"checkpoints.minutes": 0, "checkpoints.keep": 1000})
    first = Manifest.read(checkpoints(tmp_path / "run")[0])
    assert first.where == {"round": 1, "phase": "training", "turn": 0, "task": "a", "step": 1}
    assert rounds.count(1) > 10  # points that passed meanwhile
    monkeypatch.undo()
    expected = found(fit(None))
    assert found(fit(None, resume=checkpoints(tmp_path / "run")[0])) == expected


def test_a_best_model_is_written_as_it_was_though_better_ones_come_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written without a copy, and snapshots use the memory of those that nobody holds."""
    release = threading.Event()
    before: list[Tensor] = []
    after: list[Tensor] = []

    def slowly(path: Path, entries: list[Entry]) -> Record:
        if path.name.startswith("best-") and not before:
            before.extend(piece.clone() for entry in entries for piece in entry.pieces)
            assert release.wait(60)
            after.extend(piece.clone() for entry in entries for piece in entry.pieces)
        return write(path, entries)

    class Watching(saver.Saver):
        kept = 0
        last: weakref.ref[Snapshot] | None = None

        def point(self, state: Any) -> None:
            super().point(state)
            best = state().best
            if before and best is not None and (self.last is None or self.last() is not best):
                self.kept, self.last = self.kept + 1, weakref.ref(best)
            if self.kept > 2:  # the one that is being written, and two that came since
                release.set()

    monkeypatch.setattr(pending, "write", slowly)
    monkeypatch.setattr("avil_fast.run.checkpointed.Saver", Watching)
    fit(tmp_path / "run", **{"checkpoints.minutes": 0, "keep": "last", "rounds": 5})
    assert len(before) == len(after) > 0
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("last", ["rank", "best", "manifest"])
def test_a_full_disk_leaves_the_last_checkpoint_and_training_goes_on(
    background: bool, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, left, failing = OSError(errno.ENOSPC, "No space left on device"), [], [False]

    def fails(name: str) -> bool:
        """From the third checkpoint on, at the same kind of file."""
        there = [path.name for path in checkpoints(tmp_path / "run")]
        failing[0] = failing[0] or (len(there) == 2 and name.startswith(last))
        if failing[0] and not left:
            left.extend(there)
        return failing[0] and name.startswith(last)

    def write_some(path: Path, entries: list[Entry]) -> Record:
        if fails(path.name):
            path.write_bytes(b"half of it")
            raise full
        return write(path, entries)

    def write_manifest(self: Manifest, folder: Path) -> None:
        if fails("manifest"):
            (folder / "manifest.json.partial").write_text("half", encoding="utf-8")
            raise full
        original(self, folder)

    def no_link(*paths: Path) -> None:
        raise OSError

    original = Manifest.write
    monkeypatch.setattr(pending, "write", write_some)
    monkeypatch.setattr(Manifest, "write", write_manifest)
    monkeypatch.setattr("os.link", no_link)
    monkeypatch.setattr(saver, "fits", lambda nbytes: True)
    settings = {"checkpoints.minutes": 0, "checkpoints.background": background}
    with pytest.warns(UserWarning, match="could not be saved in .*: No space left on device; training goes on, "):
        result = fit(tmp_path / "run", **settings)
    assert found(result) == found(fit(None))
    assert len(left) == 2
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == left
    monkeypatch.undo()
    assert found(fit(tmp_path / "run", resume="auto")) == found(result)


def test_a_bug_while_writing_is_told_and_makes_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, entries: list[Entry]) -> Record:
        raise KeyError("a bug")

    monkeypatch.setattr(pending, "write", broken)
    with pytest.warns(UserWarning, match="KeyError: 'a bug'; training goes on, there is none yet"):
        result = fit(tmp_path / "run", **{"checkpoints.minutes": 0})
    assert found(result) == found(fit(None))
    assert checkpoints(tmp_path / "run") == []


def test_a_run_that_fails_keeps_what_was_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def slowly(path: Path, entries: list[Entry]) -> Record:
        assert failed.wait(60)
        return write(path, entries)

    class Failing(Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, i: int) -> Any:
            if Folder(tmp_path / "run" / "checkpoints").path.exists():  # the first step has been saved, or nearly
                failed.set()
                raise AvilError("example 7 is damaged")
            return torch.zeros(5), 0

    monkeypatch.setattr(pending, "write", slowly)
    monkeypatch.setitem(runs.DATA, "failing", lambda seed: Failing())
    with pytest.raises(AvilError, match="example 7 is damaged"):
        fit(tmp_path / "run", "failing", **{"checkpoints.minutes": 0})
    (path,) = checkpoints(tmp_path / "run")
    assert inspect(path).damage == []


def test_without_room_for_a_copy_training_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def noted(path: Path, entries: list[Entry]) -> Record:
        threads.append(threading.current_thread().name)
        return write(path, entries)

    monkeypatch.setattr(saver, "fits", lambda nbytes: False)
    monkeypatch.setattr(pending, "write", noted)
    fit(tmp_path / "run", **{"checkpoints.minutes": 0})
    assert set(threads) == {threading.main_thread().name}


def test_metrics_hold_the_rounds_of_a_run_that_went_on_once(tmp_path: Path) -> None:
    fit(tmp_path / "run", **{"checkpoints.minutes": 0, "checkpoints.keep": 1000})
    (tmp_path / "run" / "summary.json").unlink()
    for path in checkpoints(tmp_path / "run")[25:]:
        shutil.rmtree(path)
    fit(tmp_path / "run", resume="auto")
    rows = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["round"] for row in rows] == [1, 2, 3]


def test_all_is_on_the_disk_before_a_checkpoint_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
    )
    folder = Folder(tmp_path / "checkpoints")
    partial = folder.begin()
    rename = Path.rename

    def renamed(self: Path, to: Path) -> Path:
        synced.append("renamed")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", renamed)
    write(partial / "file", [])
    folder.finish(partial)
    assert synced == ["file", partial.name, "renamed", "checkpoints"]


def test_a_best_model_that_is_no_longer_the_best_is_not_kept(tmp_path: Path) -> None:
    """Checkpoints tell by it whether a file can be linked; a model takes much memory for that."""
    alive: list[int] = []
    seen: list[weakref.ref[Snapshot]] = []

    class Watching(saver.Saver):
        def point(self, state: Any) -> None:
            super().point(state)
            best = state().best
            if best is not None and all(one() is not best for one in seen):
                seen.append(weakref.ref(best))
            alive.append(sum(one() is not None for one in seen))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avil_fast.run.checkpointed.Saver", Watching)
        settings = {"checkpoints.minutes": 0, "checkpoints.background": False, "keep": "last", "rounds": 4}
        fit(tmp_path / "run", **settings)
    assert len(seen) >= 4
    assert max(alive) == 1
