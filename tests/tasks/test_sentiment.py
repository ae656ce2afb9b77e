"""Four sentiment domains: splits, batches, and a run from beginning to end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from avil_fast import api
from avil_fast.config import Config, EncoderConfig, SentimentConfig, from_settings
from avil_fast.errors import AvilError
from avil_fast.tasks.from_config import build
from avil_fast.tasks.sentiment import DOMAINS, check_names, read_splits
from avil_fast.tasks.texts import Texts
from tests.tasks import made_up

SIZES = {"train": 30, "auxiliary_train": 100, "dev": 20, "test": 40}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder` and `data`."""
    root = tmp_path_factory.mktemp("text")
    made_up.encoder(root / "encoder")
    made_up.folder(root / "data")
    return root


def sentiment(folder: Path, **changes: Any) -> SentimentConfig:
    return SentimentConfig(**({"folder": folder} | SIZES | changes))


def run(made: Path, **changes: Any) -> Config:
    settings = {
        "target": "news",
        "tasks": {"source": "sentiment", "folder": made / "data"} | SIZES,
        "model": {"path": str(made / "encoder"), "max_length": 8},
    }
    return from_settings(settings | changes)


def splits(folder: Path, target: str = "news", seed: int = 0, **changes: Any) -> dict[str, Any]:
    config = sentiment(folder, **changes)
    return read_splits(config, check_names(config, target), seed)


@pytest.mark.parametrize("target", DOMAINS)
def test_no_review_and_no_text_lies_in_two_splits_of_the_target(made: Path, target: str) -> None:
    first = next(iter(parts := splits(made / "data", target)))
    assert first == target
    assert {name: len(rows) for name, rows in parts[target].items()} == {"train": 30, "dev": 20, "test": 40}
    for key in ("group", "key", "id"):
        found = [{getattr(row, key) for row in rows} for rows in parts[target].values()]
        assert sum(map(len, found)) == len(set().union(*found))
    for name in set(DOMAINS) - {target}:
        assert {split: len(rows) for split, rows in parts[name].items()} == {"train": 100}


def test_no_auxiliary_holds_a_text_that_the_target_is_measured_on(tmp_path: Path) -> None:
    folder = made_up.folder(tmp_path / "data")
    (folder / "movies.tsv").write_bytes((folder / "news.tsv").read_bytes())
    parts = splits(folder, auxiliary_train=1000)
    measured = {row.key for name in ("dev", "test") for row in parts["news"][name]}
    assert not measured & {row.key for row in parts["movies"]["train"]}
    assert {row.key for row in parts["news"]["train"]} <= {row.key for row in parts["movies"]["train"]}


def test_splits_are_the_seeds_and_training_on_more_measures_the_same(made: Path) -> None:
    one, same, other = (splits(made / "data", seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one["news"]["test"] != other["news"]["test"]
    more = splits(made / "data", train=50)
    assert [more["news"][name] for name in ("dev", "test")] == [one["news"][name] for name in ("dev", "test")]
    assert more["news"]["train"][:30] == one["news"]["train"]


def test_an_auxiliary_gives_what_it_has(made: Path) -> None:
    parts = splits(made / "data", auxiliaries=("tweets",), auxiliary_train=1000)
    assert list(parts) == ["news", "tweets"]
    assert len(parts["tweets"]["train"]) == 150


@pytest.mark.parametrize(
    ("changes", "target", "problem"),
    [
        ({}, "books", "target is 'books', but the domains are tweets"),
        ({"auxiliaries": ("news",)}, "news", "names 'news' twice"),
        ({"auxiliaries": ("movies", "movies")}, "news", "names 'movies' twice"),
        ({"test": 1000}, "news", "tasks.test is 1000, but .* 150 of the 150 texts of news"),
        ({"train": 1000}, "news", "tasks.train is 1000, but"),
        ({"folder": "nowhere"}, "news", "no such folder; avil-fast prepare sentiment"),
        ({"folder": "."}, "news", "has no news.tsv; avil-fast prepare sentiment"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    made: Path, changes: dict[str, Any], target: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AvilError, match=problem) as caught:
        splits(changes.pop("folder", made / "data"), target, **changes)
    assert "\n" not in str(caught.value)


def test_texts_are_cut_not_padded_and_padded_batch_by_batch(made: Path) -> None:
    _, tasks = build(run(made))
    target = tasks[0]
    assert isinstance(target.train, Texts)
    items = [target.train[i] for i in range(len(target.train))]
    lengths = {len(item["input_ids"]) for item in items}
    assert max(lengths) == 8
    assert len(lengths) > 2
    assert all(item["input_ids"][-1] == made_up.WORDS.index("[SEP]") for item in items)
    short = sorted(items, key=lambda item: len(item["input_ids"]))[:4]
    assert target.collate is not None
    batch = target.collate(short)
    widest = len(short[-1]["input_ids"])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (4, widest)
    assert batch["attention_mask"].sum(1).tolist() == [len(item["input_ids"]) for item in short]
    assert batch["labels"].tolist() == [item["label"] for item in short]
    assert batch["labels"].dtype == torch.int64


def test_a_label_is_the_sign_of_the_rating(made: Path) -> None:
    _, tasks = build(run(made, model={"path": str(made / "encoder"), "max_length": 24}))
    for task in tasks:
        assert isinstance(task.train, Texts)
        for i in range(len(task.train)):
            words = {made_up.WORDS[token] for token in task.train[i]["input_ids"]}
            assert bool(words & {*made_up.GOOD}) == bool(task.train[i]["label"])
            assert bool(words & {*made_up.BAD}) != bool(task.train[i]["label"])


def test_every_task_has_its_own_head_a_loss_and_one_metric_value_per_text(made: Path) -> None:
    model, tasks = build(run(made))
    assert [task.name for task in tasks] == ["news", "tweets", "movies", "products"]
    for task in tasks:
        assert task.collate is not None
        assert task.metric is not None
        batch = task.collate([task.train[i] for i in range(3)])  # type: ignore[index]
        assert task.loss(model, batch).shape == ()
        assert task.metric(model, batch).shape == (3,)
        assert task.head == f"heads.{task.name}"
        assert model.get_submodule(task.head)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """More threads only wait for each other on tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_rounds_from_beginning_to_end(made: Path, tmp_path: Path, checkpointing: bool) -> None:
    config = run(
        made,
        rounds=2,
        steps_per_task=15,
        optimizer={"lr": 1e-2},
        finetune={"epochs": 0},
        alpha={"steps": 3},
        output_dir=tmp_path / "run",
        model={"path": str(made / "encoder"), "max_length": 24, "gradient_checkpointing": checkpointing},
    )
    result = api.train(*build(config), config)
    assert result.alphas.shape == (2, 4)
    assert result.summary["test_metric"] > 0.8
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_a_model_that_does_not_suit_the_tasks_is_refused(made: Path) -> None:
    with pytest.raises(AvilError, match=r"model\.name is 'encoder', but tasks\.source: digits needs 'convnet'"):
        from_settings({"model": {"name": "encoder", "path": "x"}})
    with pytest.raises(AvilError, match=r"model\.name is 'convnet', but tasks\.source: sentiment needs 'encoder'"):
        run(made, model={"name": "convnet"})
    assert isinstance(run(made).model, EncoderConfig)
