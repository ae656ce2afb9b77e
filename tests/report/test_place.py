"""Where a run may write: nothing of anybody else's is touched, and nothing finished is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avil_fast.errors import AvilError
from avil_fast.report import folder as report_folder
from avil_fast.report.folder import RunFolder
from avil_fast.report.place import MARK

WEIGHTS = [("weight", torch.ones(3))]


def write(path: Path, during: Callable[[RunFolder], None]) -> None:
    """A run that replaces what is there, and does what `during` does."""
    with RunFolder(path, overwrite=True) as folder:
        folder.write_config("rounds: 1\n")
        during(folder)


def finish(path: Path, word: str) -> None:
    write(path, lambda folder: folder.write_result(WEIGHTS, lambda: word, {"is": word}))


def fail(folder: RunFolder) -> None:
    raise AvilError("in the middle")


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("own", [["config.yaml"], ["config.yaml", "notes.md"], ["notes.md"], [".env"]])
def test_a_user_s_folder_is_refused_even_if_a_config_lies_in_it(
    tmp_path: Path, overwrite: bool, own: list[str]
) -> None:
    path = tmp_path / "mine"
    path.mkdir()
    for name in own:
        (path / name).write_text("output_dir: mine\n", encoding="utf-8")
    before = tree(tmp_path)
    with pytest.raises(AvilError, match=rf"no run's, such as '{own[-1]}'; name another"):
        RunFolder(path, overwrite)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("where", ["run", "run.previous"])
def test_a_file_that_somebody_put_beside_a_run_is_not_removed_with_it(tmp_path: Path, where: str) -> None:
    finish(tmp_path / where, "old")
    (tmp_path / where / "plot.png").write_bytes(b"mine")
    with pytest.raises(AvilError, match=r"name another|is in the way of output_dir"):
        RunFolder(tmp_path / "run", overwrite=True)
    assert (tmp_path / where / "plot.png").read_bytes() == b"mine"


def test_what_a_killed_start_left_half_written_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml.partial").touch()
    finish(tmp_path / "run", "new")
    assert not list(tmp_path.rglob("*.partial"))


def test_a_linked_folder_stays_a_link_and_its_run_is_replaced_where_it_lies(tmp_path: Path) -> None:
    scratch, link = tmp_path / "scratch", tmp_path / "run"
    scratch.mkdir()
    link.symlink_to(scratch)
    for word in ("one", "two", "three"):
        finish(link, word)
        assert link.is_symlink()
        assert (scratch / "report.html").read_text(encoding="utf-8") == word
    assert {p.name for p in tmp_path.iterdir()} == {"scratch", "run"}


def test_a_failure_in_a_linked_folder_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    with pytest.raises(AvilError, match="in the middle"):
        write(tmp_path / "run", fail)
    assert (tmp_path / "run").is_symlink()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_cannot_be_undone_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str | Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    def fail_where_nothing_can_be_removed(folder: RunFolder) -> None:
        monkeypatch.setattr(os, "rmdir", refuse)
        monkeypatch.setattr(os, "unlink", refuse)
        fail(folder)

    with pytest.raises(AvilError, match="in the middle"):
        write(tmp_path / "run", fail_where_nothing_can_be_removed)


def test_a_finished_run_outlives_two_replacements_that_fail(tmp_path: Path) -> None:
    path = tmp_path / "run"
    finish(path, "finished")

    def fail_with_a_checkpoint(folder: RunFolder) -> None:
        checkpoint = folder.path / "checkpoints" / "checkpoint-000001"
        checkpoint.mkdir(parents=True)
        (checkpoint / "manifest.json").touch()
        fail(folder)

    for _ in range(2):
        with pytest.raises(AvilError, match="in the middle"):
            write(path, fail_with_a_checkpoint)
    assert (tmp_path / "run.previous" / "report.html").read_text(encoding="utf-8") == "finished"


def test_a_trained_model_outlives_a_disk_that_is_full_for_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write_whole = tmp_path / "run", report_folder.write_whole

    def full(place: Path, text: str) -> None:
        if place.name == "report.html":
            raise OSError(28, "No space left on device")
        write_whole(place, text)

    monkeypatch.setattr(report_folder, "write_whole", full)
    with pytest.raises(AvilError, match=r"make room and run it again; the trained model is in '\S+run/model'"):
        finish(path, "")
    assert (path / "model" / "model.safetensors").is_file()
    with pytest.raises(AvilError, match="holds a trained model, but not the end of its run"):
        RunFolder(path, overwrite=False)


def test_a_report_that_cannot_be_drawn_costs_no_result(tmp_path: Path) -> None:
    def draw() -> str:
        raise KeyError("alpha")

    with pytest.warns(UserWarning, match=r"the report cannot be drawn \(KeyError: 'alpha'\)"):
        write(tmp_path / "run", lambda folder: folder.write_result(WEIGHTS, draw, {"is": "there"}))
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"config.yaml", "model", "summary.json"}


def test_whoever_looks_before_and_comes_after_another_is_refused(tmp_path: Path) -> None:
    """Both have seen that there is no folder; then one makes it, and writes into it."""
    first, second = RunFolder(tmp_path / "run", False), RunFolder(tmp_path / "run", False)
    with first:
        first.write_config("first")
        with pytest.raises(AvilError, match="another run is writing now"), second:
            pass
        first.write_result(WEIGHTS, str, {})
    with pytest.raises(AvilError, match="holds a finished run"), RunFolder(tmp_path / "run", False):
        pass
    with pytest.raises(AvilError, match="holds a finished run"), second:
        pass


def test_a_folder_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(AvilError, match=r"run' cannot be used: Permission denied; set another one"):
        RunFolder(tmp_path / "run", overwrite=True)


def test_the_mark_says_whose_the_settings_are(tmp_path: Path) -> None:
    finish(tmp_path / "run", "")
    assert (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8").startswith(MARK + "\n")
