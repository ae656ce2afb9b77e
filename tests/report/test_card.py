"""The model card: what a hub reads of it, what it says, and what it never tells."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from avil_fast.config import Config, from_dotted, from_settings
from avil_fast.report.card import MARK, render
from avil_fast.report.exported_run import ExportedRun
from avil_fast.report.redaction import hidden, plain, without_folders
from avil_fast.report.run import FinishedRun

TASKS = ("rte", "m_n*li", "<b>|x`")
ALPHA = {"rte": 0.83, "m_n*li": 0.0, "<b>|x`": -0.25}


def config(**changes: Any) -> Config:
    tasks = {
        "rte": {"files": "data/rte", "columns": {"pair": "hypothesis"}},
        "m_n*li": {"files": {"train": "/home/somebody/secret/mnli.jsonl"}},
        "<b>|x`": {"dataset": "hub:owner/set"},
    }
    model = {"path": "/home/somebody/models/roberta"}
    return from_settings({"target": "rte", "rounds": 3, "tasks": tasks, "model": model} | changes)


def row(round_: int, alpha: dict[str, float]) -> dict[str, Any]:
    return {"round": round_, "alpha": alpha, "weight": dict.fromkeys(alpha, 1.0)}


def finished(**changes: Any) -> ExportedRun:
    baseline = {"method": "single", "dev_metric": 0.7, "test_metric": 0.65, "dev_loss": 0.8, "test_loss": 0.81}
    summary = {
        "method": "avil",
        "preset": "default",
        "target": "rte",
        "metric": {"name": "accuracy", "higher_is_better": True, "percent": True},
        "tasks": list(TASKS),
        "seed": 0,
        "rounds": 3,
        "best_round": 2,
        "finetune_epoch": 4,
        "dev_loss": 0.5,
        "dev_metric": 0.8125,
        "test_loss": 0.6,
        "test_metric": 0.75,
        "alpha_mean": dict.fromkeys(TASKS, 0.5),
        "weight_last": dict.fromkeys(TASKS, 1.0),
        "steps": dict.fromkeys(TASKS, 30),
        "benefit": {"rte": 0.25, "m_n*li": -0.0125, "<b>|x`": None},
        "examples": {"rte": {"train": 2490, "dev": 277}, "m_n*li": {"train": 392702}},
        "versions": {"avil_fast": "0.1.0", "torch": "2.13.0"},
        "baselines": {"single": baseline},
    }
    history = [row(1, dict.fromkeys(TASKS, 9.0)), row(2, ALPHA), row(3, dict.fromkeys(TASKS, 7.0))]
    run = FinishedRun(Path("run"), summary | changes, history, "", {})
    return ExportedRun(run, config(), {"transformers": "5.0"}, is_transformers=True)


def front(card: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return read


def test_a_hub_reads_the_front_matter_and_its_results() -> None:
    model = {"path": "hub:owner/roberta"}
    card = render(replace(finished(), config=config(model=model)))
    data = ModelCard(card).data
    assert (data.library_name, data.base_model, data.pipeline_tag) == (
        "transformers",
        "owner/roberta",
        "text-classification",
    )
    assert "avil-fast" in data.tags
    results = [(r.dataset_name, r.dataset_split, r.metric_type, r.metric_value) for r in data.eval_results]
    assert results == [("rte", "dev", "accuracy", 0.8125), ("rte", "test", "accuracy", 0.75)]
    assert data.to_dict()["model-index"] == front(card)["model-index"]
    assert MARK in card


@pytest.mark.parametrize(
    ("settings", "base"),
    [
        ({"path": "hub:owner/roberta-large"}, "owner/roberta-large"),
        ({"path": "models/roberta/"}, None),
        ({"path": "roberta"}, None),
        ({"path": "C:\\models\\roberta"}, None),
        ({"path": "transformers/roberta"}, "transformers"),  # a package that is installed
        ({"path": "models/fresh", "init": "random"}, None),
    ],
)
def test_the_base_model_is_a_hubs_or_a_packages_name(settings: dict[str, Any], base: str | None) -> None:
    tasks = {"rte": {"kind": "language_modelling", "files": "x"}} if "init" in settings else config().tasks
    run = replace(finished(), config=config(model=settings, **({"tasks": tasks} if "init" in settings else {})))
    assert front(render(run)).get("base_model") == base


def test_it_tells_of_results_data_and_every_alpha() -> None:
    card = render(finished())
    assert "| `avil`, this model | 81.2 % | 75.0 % | 0.500 |\n| `single` | 70.0 % | 65.0 % | 0.800 |\n" in card
    assert "| rte (target) | 2,490 | 277 | – |\n" in card
    assert "| m\\_n\\*li | 392,702 | – | – |\n" in card
    one, two, three = re.findall(r"(?m)^- \*\*(.*)$", card)
    assert one == (
        "rte**: α was 0.83 in round 2, the kept one, and 0.50 on average, so 83 % of its update was merged; its "
        "weight stayed at 1. In the rounds up to the kept one it lowered the target's dev loss by 0.250."
    )
    assert "its update was left out" in two
    assert "raised the target's dev loss by 0.013, which is too little to tell." in two or "by 0.012, which" in two
    assert "25 % of its update was taken out of the model" in three
    assert "dev loss" not in three
    assert "- rounds: 3, of which round 2 was kept\n" in card
    assert "epoch 4 was kept" in card
    assert "avil_fast 0.1.0, torch 2.13.0, transformers 5.0" in card
    assert "2405.07769" in card
    assert 'tokenizer("A text", "its pair", return_tensors="pt")' in card
    assert "mergekit" not in card


def test_it_tells_that_training_began_anew() -> None:
    run = finished()
    kept = run.summary["best_round"]
    shares = dict(zip(TASKS, (1.0, 0.25, 1.0), strict=True))
    apart, together = {"dev_held_out": True}, {"dev_held_out": False, "restarted": True, "share": shares}
    rows = [row | (apart if row["round"] < kept else together) for row in run.history]
    card = render(replace(run, run=replace(run.run, history=rows)))
    told = re.findall(r"(?m)^- \*\*(.*)$", card)
    had = "in the first round; when training began anew, it had "
    assert told[0].startswith(f"rte**: α settled at 0.83 {had}its dev set to train on, too; its weight")
    assert f"{had}25 % of the target's steps; its weight" in told[1]
    assert f"{had}as many steps as the target; its weight" in told[2]


def test_names_are_shown_as_they_are() -> None:
    assert plain("a_b*[c](d) <e>\n|f`#$") == "a\\_b\\*\\[c\\]\\(d\\) \\<e\\> \\|f\\`\\#\\$"
    body = render(finished(), {name: (f"tasks/{i}", 1.0) for i, name in enumerate(TASKS)}).split("<details>")[0]
    body = body.split("---\n", 2)[2]
    assert "<b>" not in body
    assert body.count("\\<b\\>\\|x\\`") == 3
    assert front(render(finished(target="<b>|x`", metric=None)))["tags"]


def test_it_tells_nothing_of_the_machine() -> None:
    card = render(finished())
    assert "somebody" not in card
    assert "secret" not in card
    assert "files: data/rte" in card
    assert "train: mnli.jsonl" in card
    assert "dataset: hub:owner/set" in card


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/me/x.csv", "x.csv"),
        ("~/x", "x"),
        ("file:///home/me/x", "x"),
        ("D:\\me\\x", "x"),
        ("\\\\host\\share\\me\\x", "x"),
        ("/", "/"),
        ("data/x.csv", "data/x.csv"),
        ("hub:owner/name", "hub:owner/name"),
    ],
)
def test_absolute_paths_lose_their_folders(path: str, shown: str) -> None:
    assert without_folders(path) == shown
    assert hidden({"a": [{"files": path}, 3, None]}) == {"a": [{"files": shown}, 3, None]}
    assert hidden({"prompt": path, "labels": [path]}) == {"prompt": path, "labels": [path]}


def test_a_fence_within_the_settings_does_not_end_them() -> None:
    tasks = {"rte": {"kind": "language_modelling", "files": "x", "prompt": "````{text}", "completion": "{y}"}}
    card = render(replace(finished(), config=config(tasks=tasks, model={"path": "m"})))
    assert "\n`````yaml\n" in card
    assert "\n`````\n" in card


def test_a_run_without_transformers_metric_or_sizes() -> None:
    plain_config = from_dotted({"target": "rte"})
    changes = {"metric": None, "dev_metric": None, "test_metric": None, "examples": {}, "baselines": {}}
    run = replace(finished(**changes), config=plain_config, is_transformers=False, versions={})
    card = render(run, dict.fromkeys(TASKS, ("tasks/x", 1.0)))
    read = front(card)
    assert (read["library_name"], "model-index" in read, "base_model" in read) == ("avil-fast", False, False)
    assert "| `avil`, this model | 0.500 | 0.600 |\n" in card
    assert "| rte (target) | – | – | – |\n" in card
    assert "load_file" in card
    assert "mergekit" not in card
    assert "is the model of that round, before the fine-tune." in card


def test_a_baseline_says_that_it_trained_the_target_alone() -> None:
    steps = dict.fromkeys(TASKS, 0) | {"rte": 30}
    card = render(finished(method="single", steps=steps))
    assert "trained on that task alone" in card
    assert "- **rte**: the only task that was trained.\n" in card
    assert card.count("it was not trained.") == 2
    assert "- α:" not in card


def test_a_baseline_of_several_tasks_names_its_method() -> None:
    card = render(finished(method="multitask"))
    assert "trained with the help of 2 other datasets by `multitask`" in card
    assert "- **rte**: trained by `multitask`.\n" in card


def test_dev_figures_of_a_model_that_was_trained_on_dev_are_not_shown() -> None:
    card = render(finished(dev_held_out=False))
    assert "| `avil`, this model | trained on | 75.0 % | trained on |\n" in card
    assert "The model was trained on the dev set, too, so test is the number that counts." in card


def test_it_reads_well(tmp_path: Path) -> None:
    card = render(finished(), {name: (f"tasks/{i}", a) for i, (name, a) in enumerate(ALPHA.items())})
    assert "\n\n\n" not in card.split("<details>")[0]
    assert card.endswith("</details>\n")
    assert "| rte | `tasks/0` | 0.8300 |" in card
    assert "mergekit-yaml merge.yaml merged" in card
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    ModelCard.load(tmp_path / "README.md")
