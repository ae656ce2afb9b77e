"""AvilTrainer: transformers' Trainer with avil's loop."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import IterableDataset
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from avil_fast.errors import AvilError, Stopped
from avil_fast.trainer.settings import SUBFOLDER, config_of
from avil_fast.trainer.trainer import AvilTrainer
from tests.engine.ranks.launch import ROOT, environment, free_port
from tests.speed import slow_but

QUICK = {"finetune.epochs": 0, "rounds": 2, "alpha.steps": 3}
EVENTS = [name for name in dir(TrainerCallback) if name.startswith("on_") and name != "on_pre_optimizer_step"]
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)  # peft asks


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(vocab_size=30, max_position_embeddings=8, **shape, **dropout))


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return LlamaForCausalLM(LlamaConfig(vocab_size=30, max_position_embeddings=16, **shape))


def sentences(n: int, seed: int = 0) -> Dataset:
    """With a column that no model takes."""
    ids = torch.randint(1, 30, (n, 5), generator=torch.Generator().manual_seed(seed))
    labels = (ids[:, 0] > 15).long().tolist()
    return Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels, "note": ["text"] * n})


def continuations(n: int, seed: int = 0) -> Dataset:
    """Of different lengths, with prompts that are not learned."""
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(1, 30, (4 + i % 5,), generator=generator).tolist() for i in range(n)]
    return Dataset.from_dict({"input_ids": ids, "labels": [[-100, -100, *row[2:]] for row in ids]})


def padded(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    length = max(len(item["input_ids"]) for item in items)

    def column(name: str, fill: int) -> Tensor:
        return torch.tensor([item[name] + [fill] * (length - len(item[name])) for item in items])

    mask = torch.tensor([[1] * len(i["input_ids"]) + [0] * (length - len(i["input_ids"])) for i in items])
    return {"input_ids": column("input_ids", 0), "labels": column("labels", -100), "attention_mask": mask}


def arguments(folder: Path, **given: Any) -> TrainingArguments:
    common = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "learning_rate": 1e-2}
    return TrainingArguments(str(folder), **common | given)


def trainer(folder: Path, given: dict[str, Any] | None = None, **arg: Any) -> AvilTrainer:
    """Of BERT on two tasks; `given` goes to AvilTrainer, `arg` to TrainingArguments."""
    given = {
        "model": bert(),
        "args": arguments(folder, **arg),
        "target": "news",
        "train_datasets": {"news": sentences(16), "film": sentences(24, 1)},
        "eval_dataset": sentences(12, 2),
    } | (given or {})
    given["avil"] = QUICK | dict(given.get("avil", {}))
    kind = given.pop("kind", AvilTrainer)
    return kind(given.pop("model"), given.pop("args"), **given)


def accuracy(found: Any) -> dict[str, float]:
    assert found.predictions.shape == (*found.label_ids.shape, 2)
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


class Recorder(TrainerCallback):
    def __init__(self) -> None:
        self.events: list[str] = []


for _event in EVENTS:

    def _record(self: Recorder, *args: Any, _event: str = _event, **others: Any) -> None:
        self.events.append(_event.removeprefix("on_"))

    setattr(Recorder, _event, _record)


class Recording(AvilTrainer):
    """Keeps the batches that it trains on."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **options: Any) -> Any:
        if model.training:
            self.__dict__.setdefault("seen", []).append(dict(inputs))
        return super().compute_loss(model, inputs, *args, **options)


def test_one_task_alone_is_transformers_trainer(tmp_path: Path) -> None:
    model, data = bert(), sentences(24)
    plain = copy.deepcopy(model)
    alone = {"alpha.steps": 0, "rounds": 1}
    ours = trainer(
        tmp_path,
        {"kind": Recording, "model": model, "train_datasets": {"news": data}, "avil": alone},
        max_grad_norm=0.3,
    )
    ours.train()
    seen = {name: torch.cat([batch[name] for batch in ours.seen]).tolist() for name in ("input_ids", "labels")}
    args = arguments(
        tmp_path / "plain",
        num_train_epochs=1,
        max_grad_norm=0.3,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
    )
    Trainer(plain, args, train_dataset=Dataset.from_dict(seen)).train()
    before = bert()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-4, atol=1e-5)
    assert not torch.equal(before.classifier.weight, plain.classifier.weight)


def test_events_come_in_the_order_of_trainer(tmp_path: Path) -> None:
    recorder = Recorder()
    avil = {"rounds": 1, "finetune.epochs": 1, "steps_per_task": 1}
    train = trainer(
        tmp_path,
        {"callbacks": [recorder], "avil": avil},
        eval_strategy="steps",
        eval_steps=1,  # due within a round, done at its end
        save_strategy="steps",
        save_steps=1,
        logging_steps=2,
        gradient_accumulation_steps=2,
    )
    found = train.train()
    step = ["step_begin", "substep_end", "optimizer_step", "step_end"]
    end = [*["prediction_step"] * 2, "log", "evaluate", "save"]
    assert recorder.events == [
        *("init_end", "train_begin"),
        *("epoch_begin", *step, *step, "log", "epoch_end", "log", *end),
        *("epoch_begin", *step, "epoch_end", *end),
        *("log", "log", "train_end"),
    ]
    assert (found.global_step, train.state.max_steps, train.state.epoch) == (3, 3, 2.0)
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-2")
    assert saved.num_labels == 2
    assert train.state.log_history[0]["loss"] == pytest.approx(
        sum(train.state.log_history[1][f"train_loss/{task}"] for task in ("news", "film")) / 2
    )


def test_logs_metrics_and_files_of_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    train = trainer(
        tmp_path / "run",
        {"compute_metrics": accuracy, "test_dataset": sentences(8, 3), "avil": {"alpha.steps": 1}},
        metric_for_best_model="accuracy",
        eval_strategy="epoch",
        report_to="tensorboard",
    )
    found = train.train()
    rows = [entry for entry in train.state.log_history if "alpha/news" in entry]
    evaluations = [entry for entry in train.state.log_history if "eval_accuracy" in entry]
    assert [row["alpha/film"] for row in rows] == train.result.alphas[:, 1].tolist()
    assert {"weight/news", "delta_norm/film", "train_loss/news", "dev_loss", "test_metric"} < set(rows[0])
    assert [row["dev_metric"] for row in rows] == [entry["eval_accuracy"] for entry in evaluations]
    assert [row["epoch"] for row in rows] == [entry["epoch"] for entry in evaluations] == [1.0, 2.0]
    assert train.state.best_metric == max(row["dev_metric"] for row in rows)
    assert train.evaluate()["eval_accuracy"] == train.result.summary["dev_metric"]
    assert train.predict(sentences(8, 3)).metrics["test_accuracy"] == train.result.summary["test_metric"]
    assert found.metrics["train_loss"] == found.training_loss > 0
    board = EventAccumulator(str(next((tmp_path / "board").rglob("events*")).parent)).Reload()
    assert {"train/alpha/news", "train/delta_norm/film", "eval/accuracy"} <= set(board.Tags()["scalars"])


def test_the_eval_dataset_is_not_trained_on_unless_that_is_asked_for(tmp_path: Path) -> None:
    given = arguments(tmp_path)
    assert config_of(given, "news", {}).alpha.rounds is None
    assert config_of(given, "news", {"alpha.rounds": "auto"}).alpha.rounds == "auto"


class Signal(TrainerCallback):
    """Tells the run to stop, as a scheduler does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == self.step:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("step", slow_but(7, of=[None, 7, 13]), ids=["more rounds", "round", "fine-tune"])
def test_a_run_goes_on_with_its_state(tmp_path: Path, step: int | None) -> None:
    """From the end of a round where more are wanted, from within one, and from within the fine-tune."""

    def run(folder: str, callbacks: list[Any], **avil: Any) -> AvilTrainer:
        settings = {"alpha.steps": 1, "finetune.epochs": 1, "steps_per_task": 3, "checkpoints.keep": 1} | avil
        return trainer(
            tmp_path / folder, {"callbacks": callbacks, "avil": settings}, save_strategy="steps", logging_steps=1
        )

    whole = run("whole", [])
    whole.train()
    if step is None:
        run("parts", [], rounds=1).train()
    else:
        with pytest.raises(Stopped, match=r"; call train\(resume_from_checkpoint=True\)$"):
            run("parts", [Signal(step)]).train()
    second = run("parts", [])
    found = second.train(resume_from_checkpoint=True if step is None else f"{second.args.output_dir}/avil")
    assert found.global_step == whole.state.global_step == second.state.max_steps

    def logs(train: AvilTrainer, name: str) -> dict[int, float]:
        return {entry["step"]: entry[name] for entry in train.state.log_history if name in entry}

    lost = {} if step is None else {step} | set(range(6 * ((step - 1) // 6) + 1, step))
    assert logs(second, "loss") == {s: loss for s, loss in logs(whole, "loss").items() if s not in lost}
    assert logs(second, "alpha/film") == logs(whole, "alpha/film")
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(second.model.get_parameter(name), parameter)


class Stop(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        control.should_training_stop = state.global_step >= 2


@pytest.mark.parametrize("kind", ["early", "own", "fine-tune"])
def test_a_callback_ends_the_run_with_the_best_model(tmp_path: Path, kind: str) -> None:
    callback = Stop() if kind == "own" else EarlyStoppingCallback(1)
    tune = kind == "fine-tune"
    train = trainer(
        tmp_path,
        {
            "callbacks": [callback],
            "avil": {"rounds": 1 if tune else 5, "finetune.epochs": 5, "optimizer.lr": 1e-6 if tune else 5.0},
        },
        eval_strategy="epoch",
        load_best_model_at_end=True,
        save_strategy="epoch",
    )
    if tune:
        steps = iter(range(100))
        train.evaluate = lambda **_: (
            train.callback_handler.on_evaluate(  # type: ignore[method-assign]
                train.args, train.state, train.control, metrics := {"eval_loss": float(next(steps))}
            )
            and metrics
        )
    train.train()
    rounds = train.result.summary["rounds"]
    assert rounds == {"early": 2, "own": 1, "fine-tune": 1}[kind]
    assert train.state.epoch == (2 if tune else rounds)
    if not tune:
        best = min(row["dev_loss"] for row in train.result.history)
        assert train.evaluate()["eval_loss"] == pytest.approx(best, rel=1e-4)
    assert len(train.result.history) == rounds


def test_a_saved_model_is_the_trained_one(tmp_path: Path) -> None:
    train = trainer(tmp_path)
    train.train()
    train.save_model(str(tmp_path / "saved"))
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    ids = torch.tensor(sentences(4)["input_ids"][:])
    assert torch.equal(saved(ids).logits, train.model.eval()(ids).logits)


def test_a_subclass_and_arguments_decide_the_loss(tmp_path: Path) -> None:
    class Tenfold(Recording):
        def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **options: Any) -> Any:
            assert set(inputs) == {"input_ids", "labels"}  # and not the note
            loss = super().compute_loss(model, inputs, *args, **options)
            return (10 * loss[0], loss[1]) if isinstance(loss, tuple) else 10 * loss

    def first(**given: Any) -> float:
        at = tmp_path / str(len(list(tmp_path.iterdir())))
        at.mkdir()
        smooth = given.pop("label_smoothing_factor", 0.0)
        given["avil"] = {"rounds": 1, "alpha.steps": 0} | given.get("avil", {})
        train = trainer(at, given, label_smoothing_factor=smooth)
        train.train()
        return float(train.result.history[0]["train_loss"]["news"])

    def summed(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch

    plain = first()
    assert first(compute_loss_func=summed) == pytest.approx(plain, rel=1e-5)
    assert first(kind=Tenfold, avil={"optimizer.clip_norm": None}) == pytest.approx(10 * plain, rel=0.1)
    assert first(label_smoothing_factor=0.5) != pytest.approx(plain, rel=1e-5)


def test_parts_of_a_batch_weigh_by_their_labels(tmp_path: Path) -> None:
    found = []
    for parts in (1, 4):
        model = llama()
        train = trainer(
            tmp_path / str(parts),
            {
                "model": model,
                "data_collator": padded,
                "train_datasets": {"news": continuations(16), "film": continuations(16, 1)},
                "eval_dataset": continuations(10, 2),
                "avil": {"optimizer.name": "sgd"},
            },
            per_device_train_batch_size=8 // parts,
            gradient_accumulation_steps=parts,
        )
        train.train()
        found.append((train.result.alphas, model.lm_head.weight))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_an_adapter_is_trained_and_saved_alone(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    base = llama()
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    data = {
        "data_collator": padded,
        "train_datasets": {"news": continuations(8)},
        "eval_dataset": continuations(8, 2),
    }
    train = trainer(tmp_path, {"model": model} | data, save_strategy="epoch")
    train.train()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if "lora_B" in name or "lora_A" in name}
    train.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    ids = torch.arange(1, 9)[None]
    for folder in ("saved", f"checkpoint-{train.state.global_step}"):
        again = PeftModel.from_pretrained(llama(), tmp_path / folder).eval()
        if folder == "saved":
            assert torch.equal(again(ids).logits, model.eval()(ids).logits)


class Net(nn.Module):
    """A head for each of two tasks, and noise in evaluation too; no model of transformers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(8, 2), nn.Linear(8, 3)])

    def forward(self, x: Tensor, task: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.heads[int(task[0])](self.trunk(x + torch.rand_like(x) / 10))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def vectors(n: int, task: int) -> list[dict[str, Any]]:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(task))
    return [{"x": row, "task": task, "labels": int(row[0] > 0), "note": "text"} for row in x]


def test_any_module_with_a_head_per_task_and_any_dataset(tmp_path: Path) -> None:
    """And evaluating it or saving it, or loading in other processes, changes nothing."""

    def run(folder: str, **arg: Any) -> Net:
        model = Net()
        data = {"train_datasets": {"a": vectors(16, 0), "b": vectors(16, 1)}, "eval_dataset": vectors(8, 0)}
        heads = {"a": "heads.0", "b": "heads.1"}
        train = trainer(tmp_path / folder, {"model": model, "target": "a", "heads": heads} | data, **arg)
        train.train()
        assert train.result.summary["best_round"] == 2
        return model

    plain = run("plain")
    other = run(
        "other", eval_strategy="epoch", eval_on_start=True, save_strategy="epoch", dataloader_num_workers=1
    )
    for name, parameter in plain.named_parameters():
        assert torch.equal(other.get_parameter(name), parameter), name
    saved = load_file(tmp_path / "other" / "checkpoint-8" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in plain.state_dict().items())


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield {}


class Clipper(TrainerCallback):
    def on_pre_optimizer_step(self, *args: Any, **others: Any) -> None: ...


class OwnStep(AvilTrainer):
    def training_step(self, *args: Any, **others: Any) -> Any: ...


@pytest.mark.parametrize(
    ("given", "arg", "told"),
    [
        ({}, {"fp16": True}, "args.fp16 is True"),
        ({}, {"bf16": True}, "args.bf16 is True, .* load the model in bfloat16"),
        ({}, {"max_steps": 7}, 'args.max_steps is 7, .* pass avil={"rounds"'),
        ({}, {"optim": "adafactor"}, "args.optim is 'adafactor', .* take one of adamw_torch, "),
        ({}, {"auto_find_batch_size": True}, "args.auto_find_batch_size is True"),
        ({}, {"train_sampling_strategy": "group_by_length"}, "args.train_sampling_strategy is 'group_by_length'"),
        ({}, {"lr_scheduler_type": "cosine"}, "args.lr_scheduler_type is 'cosine', .* constant rate"),
        ({}, {"warmup_steps": 3}, "args.warmup_steps is 3"),
        ({}, {"metric_for_best_model": "f1"}, "metric_for_best_model is 'f1', but there is no compute_metrics"),
        ({"optimizers": (1, None)}, {}, "optimizers is given"),
        ({"avil": {"target": "film"}}, {}, "avil has target 'film'"),
        ({"avil": {"alpha.rl": 1}}, {}, "^avil: unknown setting alpha.rl; did you mean alpha.lr"),
        ({"avil": {"device": "cpu"}}, {}, "^avil: device is a setting of a config file; leave it out"),
        ({"target": "sport"}, {}, "target is 'sport', but train_datasets has news, film"),
        ({"eval_dataset": None}, {}, "eval_dataset is missing"),
        ({"eval_dataset": {"a": sentences(1)}}, {}, "eval_dataset holds a, but"),
        ({"train_datasets": {"news": sentences(0)}}, {}, r"train_datasets\['news'\] is empty"),
        ({"train_datasets": {"news": Endless()}}, {}, r"train_datasets\['news'\] is a Endless"),
        ({"train_datasets": [sentences(1)]}, {}, "train_datasets is a list"),
        ({"heads": {"sport": "classifier"}}, {}, "heads has 'sport'"),
        ({"callbacks": [Clipper()]}, {}, "callback Clipper has on_pre_optimizer_step"),
        ({"kind": OwnStep}, {}, "OwnStep overrides training_step"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    tmp_path: Path, given: dict[str, Any], arg: dict[str, Any], told: str
) -> None:
    with pytest.raises(AvilError, match=told):
        trainer(tmp_path, given, **arg).train()


@pytest.mark.parametrize("name", ["deepspeed", "fsdp", "parallelism_config"])
def test_other_ways_to_shard_are_refused(tmp_path: Path, name: str) -> None:
    args = arguments(tmp_path)
    setattr(args, name, {"some": "setting"})
    with pytest.raises(AvilError, match=f"args.{name} is .*deepspeed"):
        trainer(tmp_path, {"args": args})


def test_shards_are_not_saved_as_a_model(tmp_path: Path) -> None:
    stage3 = tmp_path / "zero3.json"
    stage3.write_text('{"zero_optimization": {"stage": 3}}')
    with pytest.raises(AvilError, match=r"args.save_strategy is 'epoch', but under ZeRO stage 3"):
        trainer(tmp_path / "run", {"avil": {"deepspeed": stage3}}, save_strategy="epoch").train()


def test_a_folder_with_a_run_is_refused_in_words_of_trainer(tmp_path: Path) -> None:
    trainer(tmp_path).train()
    told = r"holds a finished run; .* pass avil=\{.overwrite.: True\} .* train\(resume_from_checkpoint=True\)"
    with pytest.raises(AvilError, match=told) as caught:
        trainer(tmp_path).train()
    assert "overwrite=true" not in str(caught.value)
    trainer(tmp_path, {"avil": {"overwrite": True}}).train()


@pytest.mark.parametrize(("given", "told"), [(True, "is True, but there is no"), ("x", "which no run can go on")])
def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, given: Any, told: str) -> None:
    with pytest.raises(AvilError, match=told):
        trainer(tmp_path).train(resume_from_checkpoint=given)


def ranked(folder: Path, batch_size: int) -> AvilTrainer:
    """As on one rank and on two: the same batches, and what both are compared by."""
    return trainer(
        folder,
        {"compute_metrics": accuracy, "callbacks": [Stop()], "avil": {"rounds": 3}},
        per_device_train_batch_size=batch_size,
        metric_for_best_model="accuracy",
        eval_strategy="epoch",
        logging_steps=1,
    )


@pytest.mark.slow
def test_two_ranks_find_what_one_finds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.trainer.test_trainer", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as ranks:
        one = ranked(tmp_path / "one", 8)
        one.train()
        told = ranks.communicate()[1]
    assert ranks.returncode == 0, told
    for rank in range(2):
        alphas, steps, dev, accurate = pickle.loads((tmp_path / f"found.{rank}").read_bytes())
        torch.testing.assert_close(alphas, one.result.alphas, rtol=1e-4, atol=1e-5)
        assert steps == one.state.global_step
        assert dev == pytest.approx(one.result.summary["dev_loss"], rel=1e-4)
        assert accurate == one.evaluate()["eval_accuracy"]
    assert len(one.result.history) == 1  # a callback stopped it, on all ranks alike


def on_rank(rank: int, port: int, folder: Path) -> None:
    os.environ.update(environment(2, rank, port))
    two = ranked(folder / "two", 4)
    two.train()
    dev = two.result.summary["dev_loss"]
    found = pickle.dumps((two.result.alphas, two.state.global_step, dev, two.evaluate()["eval_accuracy"]))
    (folder / f"found.{rank}").write_bytes(found)
    torch.distributed.destroy_process_group()  # or torch may abort at exit


if __name__ == "__main__":  # ranks that import once
    port = free_port()
    started = [
        multiprocessing.get_context("fork").Process(
            target=on_rank, args=(rank, port, Path(sys.argv[1])), daemon=True
        )
        for rank in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(25)
    sys.exit([process.exitcode for process in started] != [0, 0])


@pytest.mark.parametrize("method", ["single_all", "multitask_all"])
def test_epochs_of_a_method_that_trains_on_dev_are_as_long_as_counted(method: str, tmp_path: Path) -> None:
    avil = {"method": method, "rounds": 1, "finetune.epochs": 2, "steps_per_task": 1}
    train = trainer(tmp_path, {"avil": avil}, per_device_train_batch_size=8)
    found = train.train()
    assert found.global_step == train.state.max_steps == 2 + 2 * -(-(16 + 12) // 8)
    assert train.state.epoch == 3.0


def test_a_state_that_cannot_be_written_is_told_once_and_training_goes_on(tmp_path: Path) -> None:
    state_file = tmp_path / SUBFOLDER / "trainer_state.json"

    class FullDisk(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.epoch == 2:
                state_file.with_name("trainer_state.json.partial").mkdir()

    trained = trainer(tmp_path, {"callbacks": [FullDisk()], "avil": {"rounds": 3}})
    with pytest.warns(UserWarning, match=r"trainer_state\.json' cannot be written: .*; training goes on") as told:
        trained.train()
    assert len([warning for warning in told if "trainer_state" in str(warning.message)]) == 1
    assert trained.state.epoch == 3
    assert json.loads(state_file.read_text(encoding="utf-8"))["epoch"] == 1
