"""Task training against transformers' Trainer: `python -m benchmarks.trainer`.

The same model (a BERT of MiniLM-L6's shape unless told otherwise), data, batches of the same size, collator, AdamW
and clipping; both load data as they do in use. They take turns, and the ratio is the median over the turns, so
that a machine that is slow for a while is slow for both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)
from transformers.utils import logging

from avil_fast.config import DeltasConfig, OptimizerConfig, from_dotted
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.settings import EngineSettings
from avil_fast.methods.data import TaskData
from avil_fast.tasks.task import Task
from benchmarks import command


class Tokens(Dataset[dict[str, Any]]):
    """Random texts of one length, labelled at random."""

    def __init__(self, count: int, length: int, vocabulary: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(vocabulary, (count, length), generator=generator).tolist()
        self.labels = torch.randint(2, (count,), generator=generator).tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = self.ids[index]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": self.labels[index]}


class Clock(TrainerCallback):
    """Seconds from the end of the first step, which allocates, to that of the last."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last

    @property
    def seconds(self) -> float:
        return self.last - self.first


def model_of(options: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=options.vocabulary,
            hidden_size=options.width,
            num_hidden_layers=options.layers,
            num_attention_heads=options.heads,
            intermediate_size=4 * options.width,
            max_position_embeddings=max(512, options.length),
        )
    ).to(options.device)


def trainer_seconds(options: argparse.Namespace, data: Tokens, folder: str) -> float:
    """Seconds of `steps` steps of Trainer."""
    clock = Clock()
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=options.batch,
        max_steps=options.steps + 1,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=options.device == "cpu",
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model_of(options), arguments, train_dataset=data, callbacks=[clock])
    trainer.train()
    return clock.seconds


def avil_seconds(options: argparse.Namespace, data: Tokens) -> float:
    """Seconds of as many steps of a task in a round."""
    model = model_of(options)
    task = Task("task", data, lambda model, batch: model(**batch).loss, dev=data, collate=default_data_collator)
    config = from_dotted({"target": "task", "batch_size": options.batch})
    optimizer = OptimizerConfig(lr=1e-4, clip_norm=1.0)
    engine = LocalEngine(model, [task], 0, EngineSettings(optimizer, DeltasConfig()))
    batches = TaskData([task], config).cycle(0, options.steps + 1)
    engine.begin_round()
    engine.begin_task(0, seed=0)
    began = 0.0
    for number, batch in enumerate(engine.fetch(batches)):
        engine.train_step(batch)
        if number == 0:
            began = time.perf_counter()
    if options.device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    engine.end_task()
    engine.close()
    return seconds


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Examples a second of both, and their ratio, by turn."""
    data = Tokens(options.batch * 8, options.length, options.vocabulary)
    examples = options.batch * options.steps
    rates: dict[str, list[float]] = {"trainer": [], "avil": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.repeats):
            order = ("trainer", "avil") if turn % 2 == 0 else ("avil", "trainer")
            for name in order:
                seconds = (
                    trainer_seconds(options, data, folder) if name == "trainer" else avil_seconds(options, data)
                )
                rates[name].append(examples / seconds)
    ratios = [ours / theirs for ours, theirs in zip(rates["avil"], rates["trainer"], strict=True)]
    return {
        "examples_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def main() -> None:
    parser = command.parser("trainer", __doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=32, help="tokens of a text")
    parser.add_argument("--steps", type=int, default=20, help="timed in each turn, after one that is not")
    parser.add_argument("--repeats", type=int, default=7, help="turns of both")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=30522)
    options = parser.parse_args()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=UserWarning)
    found = measure(options)
    rates = found["examples_per_second"]
    print(f"transformers' Trainer  {rates['trainer']:.1f} examples/s")
    print(f"task training          {rates['avil']:.1f} examples/s")
    low, high = min(found["ratios"]), max(found["ratios"])
    print(
        f"ratio                  {100 * found['ratio']:.1f} %, median of {options.repeats} turns "
        f"({low:.2f} to {high:.2f})"
    )
    command.write(options.json, found)


if __name__ == "__main__":
    main()
