"""The command that shows a run's data."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from avil_fast import cli
from tests.tasks import made_up


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("look")
    made_up.encoder(root / "encoder")
    made_up.causal_lm(root / "lm")
    made_up.task(root / "news")
    return root


def shown(
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
    **changes: Any,
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    config = {
        "target": "news",
        "tasks": {"news": {"files": str(made / "news")}},
        "model": {"path": str(made / "encoder"), "max_length": 8},
    } | changes
    (made / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.setattr("warnings.showwarning", None)  # main() sets it; this restores it
    monkeypatch.setattr(sys, "argv", ["avil-fast", "data", str(made / "run.yaml"), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


def test_sizes_labels_lengths_and_an_example(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = shown(made, monkeypatch, capsys, "--json")
    assert code == 0
    found = json.loads(out)
    rows = made_up.rows(100)[:60]
    train = found["splits"][0]
    assert (train["task"], train["split"], train["examples"], train["items"]) == ("news", "train", 60, 60)
    good = sum(row["label"] == "good" for row in rows)
    assert train["labels"] == {"bad": 60 - good, "good": good}
    lengths = [len(row["text"].split()) + 2 for row in rows]
    assert train["cut"] == sum(length > 8 for length in lengths) > 0
    assert train["tokens"]["longest"] == 8
    assert train["repeated"] == 0
    assert train["shown"][0][0].startswith("[CLS] ")
    assert found["leaks"] == []
    code, out, _ = shown(made, monkeypatch, capsys)
    assert code == 0
    assert "No row of the target's dev or test set stands anywhere else." in out


def test_what_is_learned_is_told_apart(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {
        "kind": "language_modelling",
        "files": str(made / "news"),
        "prompt": "{text}:",
        "completion": " {label}",
    }
    model = {"path": str(made / "lm"), "max_length": 100}
    code, out, _ = shown(made, monkeypatch, capsys, "--json", tasks={"news": task}, model=model)
    assert code == 0
    first = made_up.rows(100)[0]
    assert json.loads(out)["splits"][0]["shown"] == [
        [f"{first['text']}:", False],
        [f" {first['label']}<end>", True],
    ]


def test_a_leak_stops_with_exit_code_2_after_all_was_shown(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {"news": {"files": str(made / "news")}, "copy": {"files": {"train": str(made / "news" / "test.csv")}}}
    code, out, err = shown(made, monkeypatch, capsys, tasks=tasks)
    assert code == 2
    assert "copy" in out
    (line,) = err.splitlines()
    assert "test.csv, line 2: this row of the target's test set stands in the train set of copy, too" in line
    assert "20 rows do" in line
    code, out, err = shown(made, monkeypatch, capsys, "tasks.copy.overlap=allow", tasks=tasks)
    assert (code, err) == (0, "")
    assert "overlap: allow." in out
    assert "in the train set of copy, too" in out
    assert "take it out" not in out


def test_images_are_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = shown(made, monkeypatch, capsys, tasks={"source": "digits"}, model={"name": "convnet"})
    assert code == 2
    assert "has tasks on images" in err
