"""Data files of every kind: a task reads them as it does for training, or refuses them in one sentence."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from avil_fast.config import from_settings
from avil_fast.config.model import ConvNetConfig
from avil_fast.config.text_tasks import TextTasksConfig
from avil_fast.tasks.text import build, splits, text_data
from tests.fuzz.conftest import Cases
from tests.fuzz.damage import damaged
from tests.fuzz.ending import command, contents, ends
from tests.fuzz.odd_files import CSV, JSONL, PARQUET, table, written
from tests.tasks import made_up

KINDS: dict[str, dict[str, Any]] = {
    "classification": {},
    "regression": {"kind": "regression"},
    "prompts": {"kind": "language_modelling", "prompt": "{text}:", "completion": " {label}"},
    "plain": {"kind": "language_modelling", "packing": True},
}
ODD_FILES: dict[str, bytes] = (
    {f"{name}.csv": text.encode() for name, text in CSV.items()}
    | {f"{name}.tsv": text.replace(",", "\t").encode() for name, text in [*CSV.items()][::3]}
    | {f"{name}.jsonl": text.encode() for name, text in JSONL.items()}
)
for encoding in ("utf-16", "utf-32", "latin-1", "cp1252", "shift-jis", "utf-7"):
    ODD_FILES[f"{encoding}.csv"] = (
        "text,label\nw1 good,good\nw2 bad,bad\n" + "größe,good\n" * (encoding[0] in "uclt")
    ).encode(encoding, "ignore")


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with two models, whose tokenizers are loaded once."""
    root = tmp_path_factory.mktemp("models")
    made_up.encoder(root / "encoder")
    made_up.causal_lm(root / "lm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_data, "load_tokenizer", cache(text_data.load_tokenizer))
        yield root


@pytest.fixture
def folder(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a dev set that can be read and a run's file for every kind of task."""
    monkeypatch.chdir(tmp_path)
    made_up.write(tmp_path / "dev.csv", [{"text": "w9 good", "label": "good"}, {"text": "w8 bad", "label": "bad"}])
    made_up.write(
        tmp_path / "dev_of_regression.csv", [{"text": "w9 good", "label": "1"}, {"text": "w8 bad", "label": "0"}]
    )
    return tmp_path


def settings(kind: str, file: str, models: Path) -> dict[str, Any]:
    language = kind in ("prompts", "plain")
    dev = "dev_of_regression.csv" if kind == "regression" else "dev.csv"
    task = KINDS[kind] | {"files": {"train": file, "dev": dev}}
    model = {"path": str(models / ("lm" if language else "encoder")), "max_length": 24}
    return {"target": "news", "tasks": {"news": task}, "model": model}


def read(given: dict[str, Any]) -> None:
    """All that comes before a model is loaded."""
    config = from_settings(given)
    assert isinstance(config.tasks, TextTasksConfig)
    assert not isinstance(config.model, ConvNetConfig)
    data = text_data.read_data(config.tasks.by_name, config.model, "news", 0)
    clean = splits.without_leaks(data.read, "news", data.configs)["news"]
    sets = build.encode("news", data.configs["news"], clean, data.tokenizer, config.model, 0)
    for items in sets.values():
        assert len(items)
        assert all(items[index] for index in range(len(items)))


def tried(file: str, kind: str, models: Path) -> str | None:
    before = contents(Path.cwd())
    said = ends(lambda: read(settings(kind, file, models)))
    assert contents(Path.cwd()) == before
    return said


def kinds(cases: Cases, number: int) -> list[str]:
    """All, or one of them: for each file another."""
    return list(itertools.islice(itertools.cycle(KINDS), number, number + cases(1, len(KINDS))))


@pytest.mark.parametrize("name", ODD_FILES)
def test_an_odd_file(name: str, folder: Path, models: Path, cases: Cases) -> None:
    Path(name).write_bytes(ODD_FILES[name])
    for kind in kinds(cases, [*ODD_FILES].index(name)):
        tried(name, kind, models)


@pytest.mark.parametrize("name", PARQUET)
def test_an_odd_table(name: str, folder: Path, models: Path, cases: Cases) -> None:
    Path("odd.parquet").write_bytes(written(PARQUET[name]()))
    for kind in kinds(cases, [*PARQUET].index(name)):
        tried("odd.parquet", kind, models)


GOOD = made_up.rows(12)
FILES = {
    "train.csv": "".join(["text,label\n", *(f'"{row["text"]}",{row["label"]}\n' for row in GOOD)]).encode(),
    "train.tsv": "".join(["text\tlabel\n", *(f"{row['text']}\t{row['label']}\n" for row in GOOD)]).encode(),
    "train.jsonl": "".join(json.dumps(row) + "\n" for row in GOOD).encode(),
    "train.parquet": written(table()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_something_befell(
    name: str, folder: Path, models: Path, cases: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    endings = Counter[bool]()
    for number, content in enumerate(damaged(FILES[name], cases(12, 150), name)):
        kind = [*KINDS][number % len(KINDS)]
        Path(name).write_bytes(content)
        said = tried(name, kind, models)
        endings[said is None] += 1
        if number % 11 == 0:
            Path("run.yaml").write_text(yaml.safe_dump(settings(kind, name, models)), encoding="utf-8")
            told = command(capsys, "data", "run.yaml")
            assert told == said
    assert endings[False]
    assert endings[True] or name == "train.parquet"  # of which every byte counts
