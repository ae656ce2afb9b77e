"""From a file of settings to a result that plain transformers loads."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor

from avil_fast.config import Config, from_settings
from avil_fast.engine.ranks import Ranks
from avil_fast.errors import AvilError
from avil_fast.run import training
from avil_fast.run.checks import check_run
from avil_fast.tasks.from_config import build
from avil_fast.tasks.text.heads import SharedBody
from tests.speed import slow_but
from tests.tasks import made_up

IDS = torch.tensor([[2, 5, 14, 3], [2, 9, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])

NOISE = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
"""Within peft."""


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """More threads only wait for each other on tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models and three tasks."""
    root = made_up.models_and_tasks(tmp_path_factory.mktemp("text"))
    pairs = [
        {"s1": row["text"], "s2": other["text"], "score": str(float(row["label"] == other["label"]))}
        for row, other in zip(made_up.rows(60, 3), made_up.rows(60, 4), strict=True)
    ]
    made_up.write(root / "pairs" / "train.jsonl", pairs[:40])
    made_up.write(root / "pairs" / "dev.jsonl", pairs[40:])
    return root


def run(made: Path, **changes: Any) -> Config:
    settings = {
        "target": "news",
        "rounds": 2,
        "steps_per_task": 12,
        "batch_size": 8,
        "optimizer": {"lr": 3e-3},
        "alpha": {"steps": 3},
        "finetune": {"epochs": 0},
        "output_dir": None,
        "tasks": {
            "news": {"files": made / "news"},
            "tweets": {"files": made / "tweets", "labels": ["good", "bad"]},
            "pairs": {
                "kind": "regression",
                "files": made / "pairs",
                "columns": {"text": "s1", "pair": "s2", "label": "score"},
            },
        },
        "model": {"path": str(made / "encoder"), "max_length": 16},
    }
    return from_settings(settings | changes)


def language(made: Path, **changes: Any) -> Config:
    prompted = {"kind": "language_modelling", "prompt": "{text}:", "completion": "{label}"}
    tasks = {
        "news": prompted | {"files": made / "news", "metric": "token_accuracy"},
        "tweets": prompted | {"files": made / "tweets", "demonstrations": 1},
        "plain": {"kind": "language_modelling", "files": made / "tweets", "packing": True},
    }
    model = {"path": str(made / "lm"), "max_length": 64}
    return run(made, **{"tasks": tasks, "model": model, "steps_per_task": 3, "alpha": {"steps": 1}} | changes)


def trained(config: Config) -> training.Result:
    model, tasks, model_format = build(config)
    return training.train(model, tasks, config, model_format=model_format)


def test_a_body_is_shared_and_every_task_has_a_head_of_its_own(made: Path) -> None:
    model, tasks, _ = build(run(made))
    assert isinstance(model, SharedBody)
    assert [task.name for task in tasks] == ["news", "tweets", "pairs"]
    names = dict(model.named_parameters())
    assert {name.split(".")[0] for name in names} == {"body", "heads"}
    outputs = {name: len(names[f"heads.{name}.classifier.bias"]) for name in ("news", "tweets", "pairs")}
    assert outputs == {"news": 2, "tweets": 2, "pairs": 1}
    for task in tasks:
        assert model.whole(task.name).base_model is model.body
        assert task.collate is not None
        batch = task.collate([task.train[i] for i in range(3)])  # type: ignore[index]
        assert task.loss(model, batch).shape == ()
        assert model.get_submodule(str(task.head))
    assert tasks[1].dev is tasks[1].test is None


def test_the_first_head_is_drawn_like_the_others_and_a_saved_one_is_kept(made: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = (build(run(made, seed=seed))[0].state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    saved = safetensors.torch.load_file(made / "encoder" / "model.safetensors")
    for name, value in one.items():
        assert torch.equal(value, same[name])
        if name.startswith("body."):
            assert torch.equal(value, saved[name.removeprefix("body.")])
    heads = [f"heads.{task}.classifier.weight" for task in ("news", "tweets", "pairs")]
    assert all(not torch.equal(one[head], other[head]) for head in heads)
    assert not torch.equal(one[heads[0]], one[heads[1]])
    assert all(0.005 < float(one[head].std()) < 0.05 for head in heads)  # transformers' 0.02
    head = transformers.BertForSequenceClassification.from_pretrained(made / "encoder", num_labels=2)
    transformers.AutoTokenizer.from_pretrained(made / "encoder").save_pretrained(tmp_path)
    for classes, kept in ((["bad", "good"], True), (["good", "bad"], False), (["LABEL_0", "LABEL_1"], False)):
        head.config.id2label = dict(enumerate(classes))
        head.save_pretrained(tmp_path)
        again = build(run(made, model={"path": str(tmp_path), "max_length": 16}))[0].state_dict()
        assert torch.equal(again[heads[0]], head.classifier.weight) == kept
        assert not torch.equal(again[heads[1]], head.classifier.weight)


def predictions(model: Any, name: str | None = None) -> Tensor:
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    with torch.no_grad():
        found: Tensor = model.eval()(*([name] if name else []), **inputs).logits
    return found


@pytest.mark.filterwarnings(NOISE)
@pytest.mark.parametrize(
    "changes",
    slow_but({"lora": True}, of=[{}, {"lora": True}, {"gradient_checkpointing": True}, {"dtype": "bf16"}]),
    ids=str,
)
def test_a_result_is_loaded_with_plain_transformers_and_predicts_the_same(
    made: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = {"path": str(made / "encoder"), "max_length": 16} | changes
    result = trained(run(made, model=model, output_dir=tmp_path / "run", steps_per_task=1 if changes else 80))
    assert result.alphas.shape == (2, 3)
    if not changes:
        assert result.summary["test_metric"] > 0.8
    folder = tmp_path / "run" / "model"
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    found, expected = predictions(loaded), predictions(result.model, "news")
    if "lora" in changes:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # merged
    else:
        assert torch.equal(found, expected)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 16
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config.get("use_cache", True)
    if not changes:
        classify = transformers.pipeline("text-classification", model=str(folder), device="cpu")
        assert [found["label"] for found in classify(["w1 w2 lovely", "w3 awful w4"])] == ["good", "bad"]


@pytest.mark.filterwarnings(NOISE)
@pytest.mark.parametrize(
    "changes", [{}, {"lora": {"rank": 2}}, {"lora": {"space": "B"}}, {"init": "random"}], ids=str
)
def test_a_language_model_too(made: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    model = {"path": str(made / "lm"), "max_length": 64} | changes
    result = trained(language(made, model=model, output_dir=tmp_path / "run"))
    assert result.alphas.shape == (2, 3)
    assert result.summary["metric"] == {"name": "token_accuracy", "higher_is_better": True, "percent": True}
    folder = tmp_path / "run" / "model"
    expected = predictions(result.model)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(predictions(loaded), expected, rtol=1e-5, atol=1e-5)
    assert (tmp_path / "run" / "adapter").is_dir() == ("lora" in changes)
    if "lora" in changes:
        adapted = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run" / "adapter")
        assert torch.equal(predictions(adapted), expected)
        more = {"tasks": {"news": {"kind": "language_modelling", "files": made / "news"}}, "rounds": 1}
        trained(run(made, **more, model={"path": str(folder), "max_length": 64}, steps_per_task=1))
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["use_cache"]
    transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.slow
def test_compiled_it_comes_to_the_same(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up.encoder(tmp_path, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    calls = []

    def compiler(graph: Any, inputs: Any) -> Any:  # torch's own takes a minute
        calls.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))

    settings = {"rounds": 1, "steps_per_task": 2, "batch_size": 4}
    plain, compiled = (
        trained(run(made, model={"path": str(tmp_path), "max_length": 16, "compile": flag}, **settings))
        for flag in (False, True)
    )
    assert calls
    assert compiled.alphas == pytest.approx(plain.alphas, abs=1e-5)


def test_the_metric_of_a_task_is_what_is_asked_for(made: Path) -> None:
    tasks = {"news": {"files": made / "news", "metric": "f1"}}
    summary = trained(run(made, tasks=tasks, rounds=1)).summary
    assert summary["metric"] == {"name": "f1", "higher_is_better": True, "percent": True}
    assert 0 <= summary["dev_metric"] <= 1
    values = {
        "pairs": {"kind": "regression", "files": made / "pairs", "columns": {"text": "s1", "label": "score"}}
    }
    summary = trained(run(made, tasks=values, target="pairs", rounds=1)).summary
    assert summary["metric"] == {"name": "mse", "higher_is_better": False, "percent": False}
    assert summary["dev_metric"] == pytest.approx(summary["dev_loss"], rel=1e-5)


def test_a_target_that_is_none_of_the_tasks_is_refused(made: Path) -> None:
    with pytest.raises(AvilError, match="target is 'movies', but the tasks are news, tweets, pairs; name one"):
        build(run(made, target="movies"))


@pytest.mark.parametrize("name", ["train", "items", "float"])
def test_a_name_that_torch_has_taken_is_refused(made: Path, name: str) -> None:
    with pytest.raises(AvilError, match=f"a task is named '{name}', which is a word of torch's; rename it"):
        build(run(made, tasks={"news": {"files": made / "news"}, name: {"files": made / "tweets"}}))


def test_a_decoder_can_classify_and_needs_no_padding_token_of_its_own(made: Path, tmp_path: Path) -> None:
    model = {"path": str(made / "lm"), "max_length": 64}
    result = trained(run(made, model=model, rounds=1, steps_per_task=2, output_dir=tmp_path / "run"))
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    assert torch.equal(predictions(loaded), predictions(result.model, "news"))


def test_a_target_without_dev_is_answered_with_what_to_set(made: Path) -> None:
    tasks = {"news": {"files": {"train": made / "news" / "train.csv"}}}
    with pytest.raises(AvilError, match=r"no dev set, .* set tasks.news.hold_out.dev=100"):
        build(run(made, tasks=tasks))
    tasks["news"]["hold_out"] = {"dev": 10}
    _, (task,), _ = build(run(made, tasks=tasks))
    assert (len(task.train), len(task.dev)) == (50, 10)  # type: ignore[arg-type]


def test_a_data_set_has_a_digest_by_which_ranks_are_compared(made: Path, tmp_path: Path) -> None:
    rows = made_up.rows(40)
    changed = [*rows[:-1], rows[-1] | {"label": {"good": "bad", "bad": "good"}[rows[-1]["label"]]}]
    digests = []
    for number, own in enumerate((rows, rows, changed)):
        files = {"train": made_up.write(tmp_path / f"{number}.csv", own)}
        for config in (run, language):
            task = {"files": files, "hold_out": {"dev": 5}}
            if config is language:
                task |= {"kind": "language_modelling", "prompt": "{text}", "completion": "{label}"}
            digests.append(build(config(made, tasks={"news": task}))[1][0].train.digest)  # type: ignore[union-attr]
    assert digests[:2] == digests[2:4]
    assert digests[0] != digests[4]
    assert digests[1] != digests[5]


class Recorded(Ranks):
    """Keeps what the ranks are compared by."""

    def require_same(self, what: str, lines: Sequence[str]) -> None:
        self.__dict__.setdefault("lines", []).append(list(lines))


def test_ranks_with_other_labels_of_the_same_number_are_told_apart(made: Path, tmp_path: Path) -> None:
    rows, ranks = made_up.rows(40), Recorded()
    swapped = [row | {"label": {"good": "bad", "bad": "good"}[row["label"]]} for row in rows]
    path = tmp_path / "train.csv"
    for own in (rows, rows, swapped):
        made_up.write(path, own)
        config = run(made, tasks={"news": {"files": {"train": path}, "hold_out": {"dev": 5}}})
        check_run(build(config)[1], config, ranks)
    one, same, other = ranks.__dict__["lines"]
    assert one == same
    assert one != other


def test_a_run_does_not_go_on_with_other_labels(made: Path, tmp_path: Path) -> None:
    rows = made_up.rows(40)
    made_up.write(tmp_path / "train.csv", rows)
    tasks = {"news": {"files": {"train": tmp_path / "train.csv"}, "hold_out": {"dev": 5}}}
    config = run(made, tasks=tasks, output_dir=tmp_path / "run", steps_per_task=1, checkpoints={"minutes": 0})
    trained(config)
    model, others, model_format = build(config)
    training.train(model, others, config, model_format=model_format, resume="auto")
    last = rows[-1] | {"label": {"good": "bad", "bad": "good"}[rows[-1]["label"]]}
    made_up.write(tmp_path / "train.csv", [*rows[:-1], last])
    model, others, model_format = build(config)
    with pytest.raises(AvilError, match=r"was made with other data: task 'news' .* digest .*; give the data"):
        training.train(model, others, config, model_format=model_format, resume="auto")


def test_a_leak_stops_a_run(made: Path) -> None:
    tasks = {"news": {"files": made / "news"}, "other": {"files": {"train": made / "news" / "dev.csv"}}}
    with pytest.raises(AvilError, match=r"dev.csv, line 2: this row of the target's dev set stands in the train"):
        build(run(made, tasks=tasks))


def test_batches_are_filled_at_the_end_whatever_side_generation_needs(made: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(made / "lm", padding_side="left")
    for file in (made / "lm").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer.save_pretrained(tmp_path)
    config = language(made, model={"path": str(tmp_path), "max_length": 64}, rounds=1, output_dir=tmp_path / "run")
    _, tasks, _ = build(config)
    assert tasks[0].collate is not None
    batch = tasks[0].collate([tasks[0].train[i] for i in range(4)])  # type: ignore[index]
    assert bool(batch["attention_mask"][:, 0].all())
    assert not bool(batch["attention_mask"][:, -1].all())
    trained(config)
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert saved.padding_side == "left"
    assert saved.model_max_length != 64
