"""A shape that is remembered is the one that would be counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from avil_fast.config import Config, from_settings
from avil_fast.tasks.shapes import texts
from avil_fast.tasks.shapes.remembered import RememberedShape, cache
from avil_fast.tasks.shapes.texts import TextShape
from tests.tasks.shapes.test_shapes import KINDS, llama


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = {"name": "causal_lm", "path": str(llama(tmp_path / "model")), "max_length": 16}
    task = {"kind": "language_modelling", "files": "nowhere"}
    return from_settings({"target": "a", "model": model, "tasks": {"a": task, "b": task}})


def counted(config: Config) -> TextShape:
    return TextShape(config.tasks.by_name, "a", config.model)


def remembered(config: Config) -> RememberedShape:
    return RememberedShape(config.tasks.by_name, "a", config.model)


def no_count(*_: Any) -> None:
    raise AssertionError("it is counted, not remembered")


def test_it_is_the_one_that_is_counted(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    right = counted(config)
    first = remembered(config)
    found = [first.kept(4, kind) for kind in KINDS]
    assert found == [right.kept(4, kind) for kind in KINDS]
    half = first.changed(dtype="bf16")
    assert half is not None
    assert half.sizes == right.changed(dtype="bf16").sizes
    assert first.changed(dtype="fp32") is None
    monkeypatch.setattr(texts, "TextShape", no_count)
    again = remembered(config)
    assert (again.sizes, again.tokens, again.notes) == (right.sizes, right.tokens, right.notes)
    assert [again.kept(4, kind) for kind in KINDS] == found
    assert again.changed(dtype="bf16").sizes == half.sizes
    with pytest.raises(AssertionError, match="counted"):
        again.kept(5, "training")


def test_another_model_is_counted_anew(config: Config, tmp_path: Path) -> None:
    before = remembered(config)
    llama(tmp_path / "model", num_hidden_layers=9)
    assert remembered(config).sizes == counted(config).sizes != before.sizes


@pytest.mark.parametrize("damage", ["", "[]", "null", '{"sizes": {}, "kept": {}}', "half"])
def test_what_is_damaged_is_counted_anew(config: Config, damage: str) -> None:
    kept = remembered(config).kept(4, "alpha")
    (file,) = cache().glob("*.json")
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[: len(whole) // 2] if damage == "half" else damage, encoding="utf-8")
    assert remembered(config).kept(4, "alpha") == kept
    assert json.loads(file.read_text(encoding="utf-8")) == json.loads(whole)


def test_where_nothing_can_be_written_it_is_counted(config: Config, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where the cache's folder would be", encoding="utf-8")
    assert remembered(config).sizes == counted(config).sizes
