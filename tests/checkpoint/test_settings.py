"""Going on with other settings, other data, another model; with more rounds; into another folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import avil_fast as avil
from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.resume import as_resume
from avil_fast.errors import AvilError
from tests.checkpoint import runs
from tests.checkpoint.runs import EVERY_POINT, SETTINGS, fit, found, tasks


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    fit(folder, **EVERY_POINT)
    return folder


def at(run: Path, **where: Any) -> Path:
    """The checkpoint of a place in the run."""
    paths = Folder(run / "checkpoints").all()
    return next(path for path in paths if Manifest.read(path).where.items() >= where.items())


def test_settings_that_differ_are_named(run: Path) -> None:
    path = at(run, round=2, task="t")
    with pytest.raises(AvilError) as error:
        fit(None, resume=path, **{"optimizer.lr": 0.1, "seed": 4, "alpha.steps": 3})
    assert str(error.value) == (
        f"{str(path)!r} was made with other settings: seed is 4 and was 3, optimizer.lr is 0.1 and was 0.05; "
        f"set them as they were, or start anew with overwrite=true and without resume"
    )


@pytest.mark.parametrize("folder", [".", "checkpoints"])
def test_a_run_s_folder_stands_for_its_newest_checkpoint(folder: str, run: Path) -> None:
    newest = Folder(run / "checkpoints").all()[-1]
    assert as_resume(run / folder) == as_resume(newest) == newest
    assert as_resume(run.parent) == run.parent  # `candidates` refuses it


def test_another_granularity_is_refused(run: Path) -> None:
    path = at(run, round=2, phase="α")
    with pytest.raises(AvilError, match=r"settings: alpha\.granularity is 'layer' and was 'model'; set"):
        fit(None, resume=path, **{"alpha.granularity": "layer"})


FREE: dict[str, Any] = {
    "workers": 1,
    "gradient_accumulation_steps": 2,
    "overwrite": True,
    "checkpoints.minutes": 3,
    "deltas.device": "cpu",
}


@pytest.mark.parametrize("setting", FREE)
def test_where_and_on_what_it_runs_may_change(setting: str, run: Path, tmp_path: Path) -> None:
    result = fit(tmp_path / "elsewhere", resume=at(run, round=2, phase="α"), **{setting: FREE[setting]})
    expected = fit(None)
    if setting == "gradient_accumulation_steps":  # dropout is drawn for each part, and statistics are taken of it
        assert result.alphas[:1].tolist() == expected.alphas[:1].tolist()
    else:
        assert found(result) == found(expected)


@pytest.mark.parametrize("rounds", [2, 5])
def test_rounds_may_change_until_the_fine_tune(rounds: int, run: Path) -> None:
    assert found(fit(None, resume=at(run, round=2, task="b"), rounds=rounds)) == found(fit(None, rounds=rounds))
    with pytest.raises(
        AvilError, match=rf"rounds is {rounds} and was 3, but in .* the fine-tune has begun; name a"
    ):
        fit(None, resume=at(run, phase="fine-tune", epoch=2), rounds=rounds)


def test_rounds_that_are_over_cannot_be_taken_back(run: Path) -> None:
    with pytest.raises(AvilError, match=r"rounds is 1, but .* is in round 2; set it higher"):
        fit(None, resume=at(run, round=2, task="b"), rounds=1)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_finished_run_goes_on_with_more_rounds(keep: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fit(folder, **{"checkpoints.minutes": 0, "checkpoints.keep": keep, "checkpoints.background": False})
    wheres = [Manifest.read(path).where for path in Folder(folder / "checkpoints").all()]
    assert wheres[0] == {"round": 3, "phase": "round done"}
    assert len(wheres) == keep + 1
    assert found(fit(folder, resume="auto")) == found(fit(None))
    assert found(fit(folder, resume="auto", rounds=5)) == found(fit(None, rounds=5))
    lasting = [path for path in Folder(folder / "checkpoints").all() if Manifest.read(path).lasting]
    assert [Manifest.read(path).where["round"] for path in lasting] == [5]


def test_other_data_is_refused(run: Path) -> None:
    given = tasks("tensors")
    given[2].train = runs.plain(2, 99)
    with pytest.raises(
        AvilError, match=r"made with other data: task 'b' \(train 22\), and now there is .*train 99"
    ):
        avil.fit(runs.model(), given, "t", resume=at(run, round=1), **SETTINGS)
    with pytest.raises(AvilError, match=r"made with other tasks: a, t, b, and now there are a, t; give"):
        avil.fit(runs.model(), tasks("tensors")[:2], "t", resume=at(run, round=1), **SETTINGS)


def test_another_model_is_refused(run: Path) -> None:
    model = runs.model()
    model.trunk[4] = runs.nn.Linear(9, 8)
    for name in runs.NAMES:
        model.heads[name] = runs.nn.Linear(8, 3)
    with pytest.raises(
        AvilError, match=r"of another model: parameter 'trunk.4.weight' is \(7, 9\) there and \(8, 9\)"
    ):
        avil.fit(model, tasks("tensors"), "t", resume=at(run, round=1), **SETTINGS)
    with pytest.raises(AvilError, match=r"torch.float32, but the model needs torch.float64"):
        avil.fit(runs.model().double(), tasks("tensors"), "t", resume=at(run, round=1), **SETTINGS)


def test_other_frozen_parameters_are_refused(tmp_path: Path) -> None:
    """They are not in the checkpoint, and the result would be nonsense."""

    def train(scale: float, resume: Path | None = None) -> avil.Result:
        model = runs.model()
        model.trunk[0].requires_grad_(False)
        model.trunk[0].weight.mul_(scale)
        given = {"output_dir": tmp_path / "run"} | EVERY_POINT if resume is None else {}
        return avil.fit(model, tasks("tensors"), "t", resume=resume, **SETTINGS | given)

    expected = found(train(1.0))
    path = at(tmp_path / "run", round=2)
    assert found(train(1.0, path)) == expected
    with pytest.raises(
        AvilError, match="was made with other frozen parameters than the model has; give the model"
    ):
        train(1.1, path)


class Other(runs.nn.Module):
    """A layer and a normalisation, in this order or the other, of that kind."""

    def __init__(self, first: str, norm: runs.nn.Module) -> None:
        super().__init__()
        for name in (first, "ba"[first == "b"]):
            setattr(self, name, runs.nn.Linear(5, 5))
        self.norm = norm

    def forward(self, x: Any) -> Any:
        return self.norm(self.b(self.a(x)))


def test_a_model_that_differs_in_order_or_buffers_alone_is_refused(tmp_path: Path) -> None:
    def train(model: Other, **more: Any) -> None:
        loss = avil.Task("t", runs.plain(0, 20), lambda m, b: runs.functional.cross_entropy(m(b[0]), b[1]))
        loss.dev = loss.train
        avil.fit(model, [loss], "t", rounds=2, **more)

    train(Other("a", runs.nn.BatchNorm1d(5)), output_dir=tmp_path / "run", **EVERY_POINT)
    path = at(tmp_path / "run", round=1)
    train(Other("a", runs.nn.BatchNorm1d(5)), resume=path)
    with pytest.raises(AvilError, match=r"its parameters come in another order, from 'a\.weight' on; give"):
        train(Other("b", runs.nn.BatchNorm1d(5)), resume=path)
    with pytest.raises(AvilError, match="was made with a model of other buffers; give the model"):
        train(Other("a", runs.nn.LayerNorm(5)), resume=path)


def test_a_path_that_is_no_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    for path in (tmp_path, run.parent):
        with pytest.raises(AvilError, match="which is no checkpoint and holds none; name a folder such as"):
            fit(None, resume=path)
    with pytest.raises(AvilError, match=r"nowhere', but there is no such path; name a run's folder or a check"):
        fit(None, resume=tmp_path / "nowhere")


def test_auto_needs_a_place_to_look(run: Path) -> None:
    with pytest.raises(
        AvilError, match="resume is 'auto', but there is no output_dir to look for checkpoints in; set"
    ):
        fit(None, resume="auto")


def test_a_path_may_be_a_string(run: Path) -> None:
    assert found(fit(None, resume=str(at(run, round=3)))) == found(fit(None))


def test_auto_starts_afresh_where_there_is_nothing(tmp_path: Path) -> None:
    assert found(fit(tmp_path / "run", resume="auto")) == found(fit(None))


def test_a_run_that_was_stopped_is_not_lost_unasked(run: Path, tmp_path: Path) -> None:
    stopped = Path(shutil.copytree(run, tmp_path / "run"))
    (stopped / "summary.json").unlink()
    with pytest.raises(
        AvilError, match=r"a run that was stopped; go on with resume='auto', or start anew with over"
    ):
        fit(stopped)
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(AvilError, match=r"optimizer\.lr is 0\.1"):
        fit(stopped, resume="auto", **{"optimizer.lr": 0.1})
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before
    assert len(Folder(stopped / "checkpoints").all()) == len(Folder(run / "checkpoints").all())
    fit(stopped, overwrite=True)
    assert len(Folder(stopped / "checkpoints").all()) == 1


def test_a_checkpoint_can_be_taken_up_in_another_folder(run: Path, tmp_path: Path) -> None:
    path = at(run, round=3, task="t")
    result = fit(tmp_path / "other", resume=path)
    assert found(result) == found(fit(None))
    rows = (tmp_path / "other" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["round"] for row in rows] == [1, 2, 3]
    assert Folder(run / "checkpoints").all()[0].name == "checkpoint-000001"


def test_a_target_without_a_length_is_refused_before_it_trains() -> None:
    with pytest.raises(AvilError, match=r"iterable has no len\(\), .*; set finetune\.epochs to 0"):
        fit(None, "stream")
