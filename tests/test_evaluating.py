"""A finished run's model on other files, and never on what it was trained on."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from avil_fast import cli
from avil_fast.errors import AvilError
from avil_fast.evaluating import evaluate
from avil_fast.run.launch import train
from tests.tasks import made_up


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one csv file whose dev and test are held out, and one on a folder of files."""
    root = tmp_path_factory.mktemp("evaluated")
    made_up.encoder(root / "encoder")
    made_up.write(root / "own.csv", made_up.rows(80))
    made_up.task(root / "three")
    common = [f"model.path={root / 'encoder'}", "model.max_length=16", "rounds=1", "steps_per_task=2"]
    common += ["alpha.steps=1", "finetune.epochs=0", "baselines=[]", "target=a", "log.tensorboard=false"]
    for name, files in (("held_out", f"{{train: {root / 'own.csv'}}}"), ("whole", str(root / "three"))):
        held = ["tasks.a.hold_out.dev=15", "tasks.a.hold_out.test=15"] if name == "held_out" else []
        train(None, [*common, f"tasks.a.files={files}", *held, f"output_dir={root / name}"], quiet=True)
    return root


@pytest.mark.parametrize("run", ["held_out", "whole"])
def test_other_files_are_measured_without_the_run_s_own(run: str, folder: Path, tmp_path: Path) -> None:
    """As they were when training, if they are the run's test set."""
    later = made_up.write(tmp_path / "later.csv", made_up.rows(12, seed=5))
    both = made_up.write(tmp_path / "more.csv", made_up.rows(7, seed=6))
    found = evaluate(folder / run, ["device=cpu"], [later])
    assert (list(found.splits), found.examples) == (["test"], {"test": 12})
    assert 0 <= (found.splits["test"].metric or 0) <= 1
    assert evaluate(folder / run, [], [later, both]).splits["test"].loss != found.splits["test"].loss
    if run == "whole":
        moved = folder / "three" / "test.csv"
        again = evaluate(folder / run, [], [moved]).splits["test"]
        summary = found.run.summary
        assert again.loss == pytest.approx(summary["test_loss"], rel=1e-5)
        assert again.metric == summary["test_metric"]


def test_a_dev_set_that_was_trained_on_is_marked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["method=single_all", f"model.path={folder / 'encoder'}", "model.max_length=16", "rounds=1"]
    settings += ["steps_per_task=2", "finetune.epochs=0", "baselines=[]", "target=a", "log.tensorboard=false"]
    train(None, [*settings, f"tasks.a.files={folder / 'three'}", f"output_dir={tmp_path / 'run'}"], quiet=True)
    assert evaluate(tmp_path / "run").held_out == {"dev": False, "test": True}
    assert evaluate(folder / "whole").held_out == {"dev": True, "test": True}
    made_up.task(tmp_path / "others")
    assert evaluate(tmp_path / "run", [f"tasks.a.files={tmp_path / 'others'}"]).held_out["dev"]
    own, later = folder / "three", made_up.write(tmp_path / "later.csv", made_up.rows(12, seed=5))
    files = f"{{train: {own / 'train.csv'}, dev: {own / 'dev.csv'}, test: {later}}}"
    assert evaluate(tmp_path / "run", [f"tasks.a.files={files}"]).held_out == {"dev": False, "test": True}
    monkeypatch.setattr(sys, "argv", ["avil-fast", "evaluate", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        cli.main()
    dev, test = [line for line in capsys.readouterr().out.splitlines() if "│ dev" in line or "│ test" in line]
    assert dev.startswith("│ dev (trained on) │")
    assert int(test.split("│")[2]) == evaluate(tmp_path / "run").examples["test"]


def test_other_files_are_measured_by_the_head_that_was_trained(folder: Path, tmp_path: Path) -> None:
    """Their classes are those of the model, whatever stands in their own train set."""
    run = folder / "whole"
    made_up.task(tmp_path / "same", seed=3)
    rows = made_up.rows(20, seed=3)
    made_up.write(tmp_path / "same" / "train.csv", [row for row in rows if row["label"] == "good"])
    made_up.write(tmp_path / "same" / "test.csv", made_up.rows(12, seed=5))
    later = made_up.write(tmp_path / "later.csv", made_up.rows(12, seed=5))
    found = evaluate(run, [f"tasks.a.files={tmp_path / 'same'}"]).splits["test"]
    assert found == evaluate(run, [], [later]).splits["test"]
    strange = [row | {"label": "up" if row["label"] == "good" else "down"} for row in rows]
    files = made_up.write(tmp_path / "strange.csv", strange)
    with pytest.raises(AvilError, match=r"strange\.csv, line 2: the label is .*, but the classes are bad, good"):
        evaluate(run, [f"tasks.a.files={{train: {files}, dev: {files}, test: {files}}}"])


def test_files_are_named_in_one_place(folder: Path, tmp_path: Path) -> None:
    later = made_up.write(tmp_path / "later.csv", made_up.rows(12, seed=5))
    with pytest.raises(AvilError, match=r"tasks\.a\.files is set, but --test names the files to measure on"):
        evaluate(folder / "whole", [f"tasks.a.files={folder / 'three'}"], [later])


def test_another_metric_is_not_beside_the_run_s_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["avil-fast", "evaluate", str(folder / "whole"), "tasks.a.metric=f1"])
    with pytest.raises(SystemExit):
        cli.main()
    out = capsys.readouterr().out
    assert "f1" in out
    assert [line.split("│")[5].strip() for line in out.splitlines() if "│ dev" in line] == ["–"]


def test_its_columns_may_have_other_names(folder: Path, tmp_path: Path) -> None:
    rows = made_up.rows(12, seed=5)
    plain = evaluate(folder / "whole", [], [made_up.write(tmp_path / "a.csv", rows)])
    named = [{"review text": row["text"], "stars": row["label"]} for row in rows]
    other = made_up.write(tmp_path / "b.csv", named)
    with pytest.raises(AvilError, match=r"b\.csv has no column 'text', but 'review text', 'stars'"):
        evaluate(folder / "whole", [], [other])
    found = evaluate(
        folder / "whole", ["tasks.a.columns.text=review text", "tasks.a.columns.label=stars"], [other]
    )
    assert found.splits["test"] == plain.splits["test"]


def test_a_class_that_the_model_does_not_know_is_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "strange.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label"], ["a text", "sideways"]])
    with pytest.raises(AvilError, match="'sideways'"):
        evaluate(folder / "whole", [], [path])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=1", "seed decides which rows the run was trained on"),
        ("tasks.a.hold_out.test=30", r"tasks\.a\.hold_out\.test decides which rows"),
        ("tasks.a.limits.train=10", r"tasks\.a\.limits\.train decides which rows"),
        ("rounds=3", "rounds changes nothing of an evaluation; leave it out"),
        ("optimizer.lr=0.1", r"optimizer\.lr changes nothing"),
        ("tasks.a.labels=[good, bad]", r"tasks\.a\.labels says what the outputs of the model stand for"),
        ("tasks.a.kind=regression", r"tasks\.a\.kind says what the outputs"),
    ],
)
def test_rows_that_were_trained_on_are_never_measured(override: str, said: str, folder: Path) -> None:
    with pytest.raises(AvilError, match=said):
        evaluate(folder / "held_out", [override])


def test_one_file_of_a_folder_cannot_be_set_alone(folder: Path) -> None:
    with pytest.raises(
        AvilError, match=r"tasks\.a\.files is .* and not a section; set all of it, as in 'tasks\.a"
    ):
        evaluate(folder / "whole", ["tasks.a.files.test=later.csv"])


def test_images_have_no_files_to_measure_on(tmp_path: Path) -> None:
    small = ["rounds=1", "steps_per_task=1", "finetune.epochs=0", "tasks.train=8", "tasks.auxiliary_train=8"]
    small += ["tasks.dev=8", "tasks.test=8", "alpha.steps=1", "baselines=[]", f"output_dir={tmp_path / 'run'}"]
    train(None, small, quiet=True)
    with pytest.raises(AvilError, match="--test names files, but the run's tasks are on images"):
        evaluate(tmp_path / "run", [], [tmp_path / "a.csv"])
    with pytest.raises(AvilError, match="seed decides"):
        evaluate(tmp_path / "run", ["seed=2"])
    for setting in ("tasks.train=9", "tasks.auxiliary_train=9", "tasks.auxiliaries=[]"):
        with pytest.raises(AvilError, match="changes nothing of an evaluation"):
            evaluate(tmp_path / "run", [setting])
    assert evaluate(tmp_path / "run", ["tasks.test=9"]).examples == {"dev": 8, "test": 9}


def test_a_run_from_python_is_told_from_one_with_a_file(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "whole", run)
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    for name in ("tasks", "model"):
        del settings[name]
    (run / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(AvilError, match=r"is a run of fit\(\) or of a Trainer.*measure its model in Python"):
        evaluate(run)
