"""A run's folder: what a good run leaves in it, and that the same seed leaves the same."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from avil_fast.config import load
from avil_fast.engine.ranks import ALONE
from avil_fast.errors import AvilError
from avil_fast.report import folder as report_folder
from avil_fast.report.folder import RunFolder
from avil_fast.report.place import MARK
from avil_fast.run import launch, training
from avil_fast.run.storage import open_storage
from avil_fast.tasks.from_config import build

TINY = [
    "rounds=2",
    "alpha.rounds=1",
    "finetune.epochs=1",
    "tasks.train=20",
    "tasks.auxiliary_train=20",
    "tasks.dev=10",
    "tasks.test=10",
    "model.dropout=0.3",
    "device=cpu",
]
Run = tuple[Path, training.Result]


def train(folder: Path, *more: str) -> Run:
    return folder, launch.train(None, [*TINY, f"output_dir={folder}", *more])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    """The same run twice, with another state of the global generator."""
    where = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WORLD_SIZE", raising=False)
        torch.manual_seed(1)
        one = train(where / "one")
        torch.manual_seed(2)
        yield one, train(where / "two")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_finished_run_holds_its_files_and_nothing_half_written(runs: tuple[Run, Run]) -> None:
    folder, _ = runs[0]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith(("checkpoints/", "tensorboard/"))} == {
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "model/model.safetensors",
    }
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_config_is_the_resolved_one_and_starts_the_same_run(runs: tuple[Run, Run]) -> None:
    folder, _ = runs[0]
    assert load(folder / "config.yaml") == load(None, [*TINY, f"output_dir={folder}"])


def test_metrics_have_one_line_per_round_and_all_keys(runs: tuple[Run, Run]) -> None:
    folder, result = runs[0]
    rows = lines(folder)
    assert [row["round"] for row in rows] == [1, 2]
    for row in rows:
        for by_task in ("alpha", "weight", "delta_norm"):
            assert list(row[by_task]) == result.tasks
        for number in ("dev_loss", "dev_metric", "test_metric"):
            assert isinstance(row[number], float)
        parts = {"data", "task_training", "alpha_phase", "delta_ops", "evaluation", "checkpoints"}
        assert {*parts, "total"} <= set(row["seconds"])
        assert 0 < sum(row["seconds"][part] for part in parts) <= row["seconds"]["total"] * 1.01
    assert rows == result.history


def test_the_summary_is_the_results(runs: tuple[Run, Run]) -> None:
    folder, result = runs[0]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary == result.summary
    assert summary["alpha_last"] == dict(zip(result.tasks, result.alphas[-1], strict=True))
    assert summary["baselines"]["single_all"]["method"] == "single_all"


def test_the_model_loads_into_a_fresh_one(runs: tuple[Run, Run]) -> None:
    folder, result = runs[0]
    fresh, tasks, _ = build(load(folder / "config.yaml"))
    missing, unexpected = safetensors.torch.load_model(fresh, folder / "model" / "model.safetensors")
    assert not missing
    assert not unexpected
    for name, value in result.model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    fresh.eval()
    dev = tasks[0].dev.tensors  # type: ignore[union-attr]
    assert tasks[0].loss(fresh, dev).item() == pytest.approx(result.summary["dev_loss"], rel=1e-6)


def test_the_same_seed_gives_the_same_run_to_the_last_bit(runs: tuple[Run, Run]) -> None:
    (one, _), (two, _) = runs
    first, second = lines(one), lines(two)
    for row in (*first, *second):
        del row["seconds"]
    assert first == second
    model = Path("model", "model.safetensors")
    assert (one / model).read_bytes() == (two / model).read_bytes()


def test_another_seed_gives_another_run(runs: tuple[Run, Run], tmp_path: Path) -> None:
    other, _ = train(tmp_path / "other", "seed=1", "baselines=[]")
    assert lines(other)[0]["alpha"] != lines(runs[0][0])[0]["alpha"]


FINISHED = {"config.yaml", "model", "report.html", "summary.json"}


def finished(path: Path, word: str = "old") -> None:
    with RunFolder(path, overwrite=False) as folder:
        folder.write_config(word)
        folder.write_result([], str, {"is": word})


def names(path: Path) -> set[str]:
    return {p.name for p in path.iterdir()}


def checkpoint(run: Path) -> Path:
    """The manifest of a run's checkpoint, which is not there yet."""
    folder = run / "checkpoints" / "checkpoint-000001"
    folder.mkdir(parents=True)
    return folder / "manifest.json"


def test_a_finished_run_is_not_replaced_unasked(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    with pytest.raises(AvilError, match="overwrite=true"):
        RunFolder(tmp_path / "run", overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_files_are_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(AvilError, match="holds files that are no run"):
        RunFolder(tmp_path, overwrite)
    assert names(tmp_path) == {"photo.jpg"}


WRITES = """
import sys, time
from pathlib import Path
from avil_fast.report.folder import RunFolder

path = Path(sys.argv[1])
with RunFolder(path, overwrite=True) as folder:
    folder.write_config("first")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("before", ["nothing", "a finished run", "a run to go on with"])
def test_only_one_process_writes_into_a_folder_until_it_ends_or_is_killed(tmp_path: Path, before: str) -> None:
    path = tmp_path / "run"
    if before == "a finished run":
        finished(path)
    if before == "a run to go on with":
        checkpoint(path).touch()
        (path / "config.yaml").write_text(MARK, encoding="utf-8")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WRITES, str(path)], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "writing\n"
        for overwrite, resume in [(False, False), (True, False), (False, True)]:
            with pytest.raises(AvilError, match="another run is writing now; wait for its end, or name another"):
                RunFolder(path, overwrite, resume)
        assert (path / "config.yaml").read_text(encoding="utf-8").endswith("\nfirst")
        other.send_signal(signal.SIGKILL)
    with RunFolder(path, overwrite=True) as folder:
        folder.write_config("second")
        folder.write_result([], str, {})
    assert (path / "config.yaml").read_text(encoding="utf-8").endswith("\nsecond")


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("where", ["run", "run.previous"])
def test_checkpoints_without_a_manifest_are_nothing_to_go_on_from_and_are_not_removed_unasked(
    tmp_path: Path, where: str, resume: bool
) -> None:
    path, held = tmp_path / "run", tmp_path / where
    manifest = checkpoint(held)
    (held / "config.yaml").write_text(MARK, encoding="utf-8")
    with pytest.raises(AvilError, match=rf"{where}' holds a run whose checkpoints are not whole.*; move it"):
        RunFolder(path, overwrite=False, resume=resume)
    with pytest.raises(AvilError, match="in the middle"), RunFolder(path, overwrite=True, resume=resume):
        raise AvilError("in the middle")
    assert manifest.parent.is_dir() or (path / "checkpoints" / "checkpoint-000001").is_dir()


def test_what_failed_after_a_checkpoint_stays_even_if_that_is_not_whole(tmp_path: Path) -> None:
    def fail() -> None:
        with RunFolder(tmp_path / "run", overwrite=False):
            checkpoint(tmp_path / "run")
            raise AvilError("in the middle")

    with pytest.raises(AvilError, match="in the middle"):
        fail()
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-000001").is_dir()


def test_a_folder_that_cannot_be_written_is_told_of_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as an empty one of somebody else: root, who may write anywhere, sees none."""

    def refuse(path: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(report_folder, "write_whole", refuse)
    path = tmp_path / "run"
    path.mkdir()
    config = load(None, [*TINY, f"output_dir={path}"])
    with (
        pytest.raises(AvilError, match=r"run' cannot be written: Permission denied; set another one"),
        open_storage(config, ALONE, None),
    ):
        pass
    assert not list(tmp_path.rglob("*.*"))


def test_who_comes_second_into_an_empty_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first, second = (RunFolder(path, overwrite=True) for _ in range(2))
    with first as folder:
        folder.write_config("first")
        with pytest.raises(AvilError, match="another run is writing now"), second:
            pass
        folder.write_result([], str, {"is": "first"})
    assert names(tmp_path) == {"run"}
    assert names(path) == FINISHED


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with RunFolder(tmp_path / "run", overwrite=True) as folder:
            folder.write_config("")
            folder.write_result([], str, {})
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_unfinished_run_and_an_empty_folder_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text(MARK, encoding="utf-8")
    (tmp_path / "half" / "metrics.jsonl").write_text("old", encoding="utf-8")
    for name in ("empty", "half"):
        finished(tmp_path / name)
        assert names(tmp_path / name) == FINISHED
    assert names(tmp_path) == {"empty", "half"}


def test_a_new_run_replaces_the_old_one_only_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "run"
    finished(path)
    with RunFolder(path, overwrite=True) as folder:
        folder.write_config("new")
        folder.write_result([], str, {"is": "new"})
    assert json.loads((path / "summary.json").read_text(encoding="utf-8")) == {"is": "new"}
    assert names(tmp_path) == {"run"}


@pytest.mark.parametrize("error", [AvilError, RuntimeError, KeyboardInterrupt])
def test_the_old_run_comes_back_whatever_ends_the_new_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "run"
    finished(path)

    def interrupted() -> None:
        with RunFolder(path, overwrite=True) as folder:
            folder.write_config("new")
            folder.append_metrics({"round": 1})
            raise error("in the middle")

    with pytest.raises(error):
        interrupted()
    assert (path / "config.yaml").read_text(encoding="utf-8").endswith("\nold")
    assert names(path) == FINISHED
    assert names(tmp_path) == {"run"}


def test_a_full_disk_leaves_no_half_line_and_the_next_round_writes_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [3]

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[: room[0]])

    with RunFolder(tmp_path / "run", overwrite=False) as folder:
        folder.write_config("new")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", lambda path, *options, **more: Full(path, "ab"))
            with pytest.warns(
                UserWarning, match=r"metrics\.jsonl' cannot be written: No space left on device; training"
            ):
                folder.append_metrics({"round": 1})
            folder.append_metrics({"round": 2})  # told once
        assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == b""
        folder.append_metrics({"round": 3})
        assert [row["round"] for row in lines(tmp_path / "run")] == [1, 2, 3]


def test_a_result_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    def write() -> None:
        with RunFolder(tmp_path / "run", overwrite=False) as folder:
            folder.write_config("new")
            (tmp_path / "run" / "report.html.partial").mkdir()
            folder.write_result([("weight", torch.ones(3))], str, {})

    with pytest.raises(AvilError, match=r"run' cannot be written: Is a directory; make room and run it again"):
        write()
