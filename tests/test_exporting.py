"""An exported run: plain transformers loads it, merging tools read its vectors, nothing is left half-written."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
import yaml
from torch import Tensor

from avil_fast import exporting
from avil_fast.config import Config, from_settings
from avil_fast.errors import AvilError
from avil_fast.exporting import export
from avil_fast.report import vectors
from avil_fast.run import launch, training
from avil_fast.tasks.from_config import build
from tests.checkpoint import runs as made_runs
from tests.report.test_folder import TINY
from tests.tasks import made_up

IDS = torch.tensor([[2, 5, 14, 3], [2, 9, 3, 7]])

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, which is enough for such tensors, and no way to a hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Run:
    folder: Path
    result: training.Result

    def whole(self) -> Any:
        """The model that was trained, as transformers has it."""
        model: Any = self.result.model.eval()
        return model.whole("news") if hasattr(model, "whole") else model

    def tensors(self) -> dict[str, Tensor]:
        return loaded(self.folder / "model")


Runs = Callable[[str], Run]

ENCODER: dict[str, Any] = {"model": {"path": "encoder", "max_length": 16}}
LANGUAGE: dict[str, Any] = {
    "tasks": {
        name: {
            "kind": "language_modelling",
            "prompt": "{text}:",
            "completion": "{label}",
            "files": name,
            "metric": "token_accuracy" if name == "news" else None,
        }
        for name in ("news", "tweets")
    },
    "model": {"path": "lm", "max_length": 64},
}
LORA = {"rank": 2, "space": "B"}
KINDS: dict[str, dict[str, Any]] = {
    "encoder": ENCODER,
    "causal": LANGUAGE,
    "trained-head": ENCODER | {"alpha": {"steps": 3, "lr": 300.0, "target_head": "trained"}},
    "lora": {"model": ENCODER["model"] | {"lora": LORA}},
    "causal-lora": LANGUAGE | {"model": LANGUAGE["model"] | {"lora": LORA}},
    "bf16": LANGUAGE | {"model": LANGUAGE["model"] | {"dtype": "bf16"}},
    "bf16-lora": LANGUAGE | {"model": LANGUAGE["model"] | {"dtype": "bf16", "lora": LORA}},
    "fine-tuned": ENCODER
    | {"finetune": {"epochs": 12}, "optimizer": {"lr": 0.01}, "rounds": 1, "steps_per_task": 1},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up.models_and_tasks(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def runs(made: Path) -> Runs:
    """Runs by kind, each trained once."""
    return cache(lambda kind: train(made, made / "runs" / kind, **KINDS[kind]))


def config(made: Path, folder: Path, **changes: Any) -> Config:
    settings = {
        "target": "news",
        "rounds": 2,
        "keep": "last",
        "steps_per_task": 6,
        "batch_size": 8,
        "optimizer": {"lr": 3e-3},
        "alpha": {"steps": 3, "lr": 300.0},
        "finetune": {"epochs": 0},
        "task_vectors": True,
        "output_dir": folder,
        "tasks": {"news": {"files": "news"}, "tweets": {"files": "tweets", "labels": ["good", "bad"]}},
    } | changes
    settings["tasks"] = {name: task | {"files": str(made / name)} for name, task in settings["tasks"].items()}
    settings["model"] = settings["model"] | {"path": str(made / settings["model"]["path"])}
    if settings["model"]["path"].endswith("lm"):
        settings["alpha"] = settings["alpha"] | {"lr": 1.0}
    return from_settings(settings)


def train(made: Path, folder: Path, **changes: Any) -> Run:
    found = config(made, folder, **changes)
    model, tasks, layout = build(found)
    return Run(folder, training.train(model, tasks, found, model_format=layout))


def loaded(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def auto(kind: str) -> Any:
    language = kind in ("causal", "causal-lora", "bf16")
    return transformers.AutoModelForCausalLM if language else transformers.AutoModelForSequenceClassification


def code_of(folder: Path) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


@pytest.mark.parametrize("kind", ["encoder", "causal", "lora", "causal-lora", "bf16"])
def test_plain_transformers_loads_the_very_model(kind: str, runs: Runs, made: Path, tmp_path: Path) -> None:
    run = runs(kind)
    files = export(run.folder, tmp_path / "to")
    assert files == sorted(path for path in (tmp_path / "to").rglob("*") if path.is_file())
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in files}
    model = auto(kind).from_pretrained(tmp_path / "to").eval()
    with torch.no_grad():
        theirs, ours = model(input_ids=IDS).logits, run.whole()(input_ids=IDS).logits
    if "lora" in kind:  # W + BA as one product
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    else:
        assert torch.equal(theirs, ours)
    text = "good w1 w7 bad"
    own = "lm" if auto(kind) is transformers.AutoModelForCausalLM else "encoder"
    one, other = (transformers.AutoTokenizer.from_pretrained(at)(text) for at in (tmp_path / "to", made / own))
    assert one.input_ids == other.input_ids


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_the_cards_code_runs_without_this_package(kind: str, runs: Runs, tmp_path: Path) -> None:
    export(runs(kind).folder, tmp_path / "to")
    found = "logits" if kind == "encoder" else "tokens"
    code = (
        f"{code_of(tmp_path / 'to')}\nimport sys\nassert 'avil_fast' not in sys.modules\nprint({found}.tolist())"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "to", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    given, model = tokenizer("A text", return_tensors="pt"), runs(kind).whole()
    with torch.no_grad():
        if kind == "encoder":
            expected = model(**given).logits
        else:
            expected = model.generate(given.input_ids, max_new_tokens=20)
    assert torch.equal(torch.tensor(json.loads(done.stdout.splitlines()[-1])), expected)


def test_a_convnets_card_says_how_to_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    launch.train(None, [*TINY, f"output_dir={tmp_path / 'run'}", "task_vectors=true", "alpha.settled=merge"])
    export(tmp_path / "run", tmp_path / "to", task_vectors=True)
    card = (tmp_path / "to" / "README.md").read_text(encoding="utf-8")
    assert "| `single_all` |" in card
    assert "| upper\\_left (target) | 20 | 10 | 10 |" in card
    assert not (tmp_path / "to" / "merge.yaml").exists()
    monkeypatch.chdir(tmp_path / "to")
    there: dict[str, Any] = {}
    exec(code_of(tmp_path / "to"), there)
    expected = loaded(tmp_path / "run" / "model")
    assert there["tensors"].keys() == expected.keys() == loaded(tmp_path / "to" / "base").keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in there["tensors"].items())


@pytest.mark.parametrize("kind", ["encoder", "causal", "trained-head", "lora", "causal-lora", "bf16", "bf16-lora"])
def test_merging_the_vectors_gives_the_model(kind: str, runs: Runs, tmp_path: Path) -> None:
    """As merging tools do it: base + Σ weight · (task − base), in fp32, by the recipe beside it."""
    run = runs(kind)
    export(run.folder, tmp_path / "to", task_vectors=True)
    recipe = yaml.safe_load((tmp_path / "to" / "merge.yaml").read_text(encoding="utf-8"))
    assert recipe["merge_method"] == "task_arithmetic"
    assert recipe["parameters"] == {"normalize": False}
    assert recipe["dtype"] == "float32"
    assert recipe["out_dtype"] == ("bfloat16" if "bf16" in kind else "float32")
    base = loaded(tmp_path / "to" / recipe["base_model"])
    merged, model = {name: tensor.double() for name, tensor in base.items()}, run.tensors()
    alphas = [task["parameters"]["weight"] for task in recipe["models"]]
    assert alphas == run.result.alphas[-1].tolist()
    assert max(alphas) - min(alphas) > 0.003
    for task, alpha in zip(recipe["models"], alphas, strict=True):
        other = loaded(tmp_path / "to" / task["model"])
        assert other.keys() == base.keys() == model.keys()
        for name in base:
            assert base[name].dtype == torch.float32
            merged[name] += alpha * (other[name].double() - base[name].double())
    # In bf16 the model is rounded, with LoRA its factors and their product too, and the vectors are not.
    near = {"bf16": {"rtol": 2**-8, "atol": 1e-6}, "bf16-lora": {"rtol": 2**-7, "atol": 3e-4}}
    moved = 0.0
    for name, tensor in model.items():
        bounds = near.get(kind, {"rtol": 0.0, "atol": 2e-7})
        torch.testing.assert_close(merged[name], tensor.double(), **bounds, msg=name)  # type: ignore[arg-type]
        moved = max(moved, float((base[name] - tensor.float()).abs().max()))
    assert moved > 1e-3
    heads = [n for n in base if n.startswith("classifier.")]
    head_moves = any(not torch.equal(base[n], model[n]) for n in heads)
    assert head_moves == (kind in ("encoder", "lora"))


@pytest.mark.parametrize("kind", ["encoder", "bf16"])
def test_each_vector_is_a_model_of_its_own(kind: str, runs: Runs, tmp_path: Path) -> None:
    export(runs(kind).folder, tmp_path / "to", task_vectors=True)
    for folder in ("base", "tasks/news", "tasks/tweets"):
        model = auto(kind).from_pretrained(tmp_path / "to" / folder)
        assert model.dtype == torch.float32
        saved = loaded(tmp_path / "to" / folder)
        assert all(
            torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items() if name in saved
        )
        transformers.AutoTokenizer.from_pretrained(tmp_path / "to" / folder)


def test_the_vectors_are_those_before_the_fine_tune(runs: Runs, tmp_path: Path) -> None:
    run = runs("fine-tuned")
    assert run.result.summary["finetune_epoch"] > 0
    export(run.folder, tmp_path / "to", task_vectors=True)
    card = (tmp_path / "to" / "README.md").read_text(encoding="utf-8")
    assert "the model of that round, before the fine-tune." in card


@pytest.mark.parametrize("kind", ["encoder", "causal-lora"])
def test_no_file_tells_of_the_machine(kind: str, runs: Runs, made: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(runs(kind).folder, tmp_path / "run")
    for name, key in (("config.json", "_name_or_path"), ("tokenizer_config.json", "name_or_path")):
        about = json.loads((copy / "model" / name).read_text(encoding="utf-8"))
        (copy / "model" / name).write_text(json.dumps(about | {key: str(made / "lm")}), encoding="utf-8")
    for path in export(copy, tmp_path / "to", task_vectors=True):
        for place in (made, tmp_path, Path.home(), Path.cwd()):
            assert str(place).encode() not in path.read_bytes(), path
    assert json.loads((tmp_path / "to" / "config.json").read_text(encoding="utf-8"))["_name_or_path"] == "lm"


def test_lora_in_space_ab_has_no_task_vectors(made: Path, tmp_path: Path) -> None:
    changes = {"model": ENCODER["model"] | {"lora": {"rank": 2, "space": "AB"}}}
    with pytest.raises(
        AvilError, match=r"task_vectors is true, but with model\.lora\.space: AB .* set model\.lora\."
    ):
        train(made, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_the_vectors_are_of_the_kept_round(tmp_path: Path) -> None:
    """Where a later round is worse, the earlier one's stay."""
    for seed in range(20):
        folder = tmp_path / str(seed)
        result = made_runs.fit(folder, task_vectors=True, **{"seed": seed, "rounds": 4, "optimizer.lr": 0.5})
        best = result.summary["best_round"]
        about = json.loads((folder / "task_vectors" / "about.json").read_text(encoding="utf-8"))
        assert about == {"round": best, "tasks": result.tasks, "alpha": result.alphas[best - 1].tolist()}
        assert sorted(path.name for path in folder.glob("task_vectors*")) == ["task_vectors"]
        if 1 < best < 4:
            return
    pytest.fail("the last or the first round was always the best")


def test_a_run_of_the_target_alone_keeps_none_and_says_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="leaves no deltas, as no task trains by itself; use method: avil"):
        made_runs.fit(tmp_path / "run", task_vectors=True, method="single")
    with pytest.raises(AvilError, match="has no task vectors; train with task_vectors=true"):
        export(tmp_path / "run", tmp_path / "to", task_vectors=True)
    export(tmp_path / "run", tmp_path / "to")


def test_a_full_disk_ends_no_run_and_no_other_rounds_vectors_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, calls = vectors.write_weights, []

    def full(folder: Path, tensors: Any) -> None:
        calls.append(folder)
        if len(calls) > 4:  # the first round's are there
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(folder, tensors)

    monkeypatch.setattr(vectors, "write_weights", full)
    with pytest.warns(UserWarning, match="task vectors") as told:
        made_runs.fit(tmp_path / "run", task_vectors=True, keep="last")
    reason = "cannot be written: No space left on device; training goes on"
    assert [str(w.message) for w in told] == [f"the task vectors of round {round_} {reason}" for round_ in (2, 3)]
    assert [path.name for path in (tmp_path / "run").glob("task_vectors*")] == ["task_vectors"]
    with pytest.raises(AvilError, match="has the task vectors of round 1, but the model is that of round 3"):
        export(tmp_path / "run", tmp_path / "to", task_vectors=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_that_goes_on_elsewhere_says_whose_vectors_are_missing(tmp_path: Path) -> None:
    made_runs.fit(tmp_path / "run", task_vectors=True, keep="last", **made_runs.EVERY_POINT)
    last = sorted((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))[-1]
    with pytest.warns(UserWarning, match="has no task vectors of round 3, the best so far"):
        made_runs.fit(tmp_path / "elsewhere", resume=last, task_vectors=True, keep="last")


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    """A copy of a run, to be damaged."""
    return shutil.copytree(runs("encoder").folder, tmp_path / "run")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no run": (lambda run: (run / "config.yaml").unlink(), "is no run: it has no config.yaml"),
    "unfinished": (lambda run: (run / "summary.json").unlink(), "not finished: it has no summary.json"),
    "no model": (lambda run: shutil.rmtree(run / "model"), "has no model"),
    "no weights": (lambda run: (run / "model" / "model.safetensors").unlink(), "has no model"),
    "cut weights": (lambda run: cut(run / "model" / "model.safetensors"), "model.safetensors' is damaged"),
    "deep index": (
        lambda run: (run / "model" / "model.safetensors.index.json").write_text("[" * 100_000),
        "index.json' is damaged",
    ),
    "cut summary": (lambda run: cut(run / "summary.json"), "summary.json' is damaged"),
    "other summary": (lambda run: (run / "summary.json").write_text("[]"), "summary.json' is damaged"),
    "no tasks": (lambda run: changed(run / "summary.json", tasks=None), "summary.json' is damaged"),
    "lost rounds": (lambda run: (run / "metrics.jsonl").write_text(""), "metrics.jsonl' is damaged"),
    "no metrics": (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl' is damaged"),
    "cut config": (lambda run: (run / "config.yaml").write_text("a: ["), "config.yaml' is damaged"),
    "old config": (lambda run: (run / "config.yaml").write_text("tasks: {}\nroundz: 3"), "roundz"),
    "bytes": (lambda run: (run / "summary.json").write_bytes(b"\xff\xfe"), "summary.json' is damaged"),
    "no vectors": (lambda run: shutil.rmtree(run / "task_vectors"), "train with task_vectors=true"),
    "cut vectors": (
        lambda run: cut(run / "task_vectors/tasks/1/model.safetensors"),
        "1/model.safetensors' is dam",
    ),
    "lost vectors": (lambda run: shutil.rmtree(run / "task_vectors/tasks/0"), "tasks/0' has no model"),
    "other tasks": (lambda run: changed(run / "task_vectors/about.json", tasks=["a", "b"]), "is of other tasks"),
    "lost shard": (
        lambda run: (run / "model" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone"}}'),
        "gone' is damaged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_whole_is_one_sentence(damage: str, run: Path, tmp_path: Path) -> None:
    spoil, sentence = DAMAGES[damage]
    spoil(run)
    with pytest.raises(AvilError, match=re.escape(sentence)) as error:
        export(run, tmp_path / "to", task_vectors=True)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_earlier_export_is_replaced_whole(run: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    export(run, tmp_path / "to", task_vectors=True)
    assert (tmp_path / "to" / "base").is_dir()
    with pytest.raises(AvilError, match="holds an earlier export; name another folder, or give --overwrite"):
        export(run, tmp_path / "to")
    assert (tmp_path / "to" / "base").is_dir()
    export(run, tmp_path / "to", overwrite=True)
    assert names(tmp_path / "to") == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"run", "to"}


@pytest.mark.parametrize("name", ["photo.jpg", ".git", "README.md", "notes", "notes.txt"])
def test_other_files_are_replaced_only_when_asked(name: str, run: Path, tmp_path: Path) -> None:
    if name != "README.md":
        export(run, tmp_path / "to")
    (tmp_path / "to").mkdir(exist_ok=True)
    (tmp_path / "to" / name).write_text("mine", encoding="utf-8")
    with pytest.raises(
        AvilError, match=r"holds (files that are no|an earlier) export; name another folder, or give --overwrite"
    ):
        export(run, tmp_path / "to")
    assert (tmp_path / "to" / name).read_text(encoding="utf-8") == "mine"
    export(run, tmp_path / "to", overwrite=True)
    assert name == "README.md" or not (tmp_path / "to" / name).exists()


def test_no_export_over_the_run_what_holds_it_or_a_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    for to, sentence in (
        (run, "where the run itself is"),
        (run / "model", "where the run itself is"),
        (tmp_path, "where the run itself is"),
        (Path(), "which holds more"),
        (tmp_path / "home", "which holds more"),
        (run.parent / "run" / ".." / "run", "where the run itself is"),
        (run / "summary.json", "where the run itself is"),
    ):
        with pytest.raises(AvilError, match=sentence):
            export(run, to, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(AvilError, match="which is a file; name a folder"):
        export(run, tmp_path / "file", overwrite=True)
    assert names(tmp_path) - {"file"} == before


def test_a_folder_in_the_way_of_the_half_written_one_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "to.partial").mkdir()
    (tmp_path / "to.partial" / "mine").touch()
    with pytest.raises(AvilError, match=r"to\.partial' is in the way and is no export; move it"):
        export(run, tmp_path / "to")
    assert (tmp_path / "to.partial" / "mine").is_file()


def test_what_a_killed_export_left_is_in_nobodys_way(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "to.partial")
    (tmp_path / "to.partial" / "config.json").unlink()
    export(run, tmp_path / "to")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "to"}


@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_full_disk_leaves_the_earlier_export(
    at: int, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run, tmp_path / "to")
    before, copied, calls = names(tmp_path), shutil.copyfile, []

    def full(source: Path, to: Path) -> None:
        calls.append(to)
        if len(calls) == at:
            to.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copied(source, to)

    monkeypatch.setattr(exporting.shutil, "copyfile", full)
    with pytest.raises(AvilError, match="to' cannot be written: No space left on device; make room"):
        export(run, tmp_path / "to", task_vectors=True, overwrite=True)
    assert names(tmp_path) == before


def test_the_earlier_export_comes_back_when_the_new_one_cannot_take_its_place(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run, tmp_path / "to")
    before, rename = names(tmp_path), Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "to.partial":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(AvilError, match="cannot be written: Permission denied"):
        export(run, tmp_path / "to", task_vectors=True, overwrite=True)
    assert names(tmp_path) == before


def test_tasks_of_any_name_have_folders_of_their_own() -> None:
    found = exporting._folders(["a/b", "a.b", "A-b", "..", "größe", ""])
    assert list(found.values()) == [
        "tasks/a-b",
        "tasks/a-b-1",
        "tasks/A-b-2",
        "tasks/-",
        "tasks/größe",
        "tasks/task",
    ]


def test_a_model_in_many_files_is_exported_with_its_index(run: Path, tmp_path: Path) -> None:
    from avil_fast.report.weights import write_weights

    for folder in (run / "model", run / "task_vectors" / "base"):
        tensors = loaded(folder)
        (folder / "model.safetensors").unlink()
        write_weights(folder, tensors.items(), limit=4000)
    export(run, tmp_path / "to", task_vectors=True)
    expected = safetensors.torch.load_file(run / "task_vectors" / "tasks" / "0" / "model.safetensors")
    for folder in (tmp_path / "to", tmp_path / "to" / "base"):
        assert len(list(folder.glob("model-*.safetensors"))) > 2
        assert not (folder / "model.safetensors").exists()
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        assert expected.keys() <= model.state_dict().keys()
