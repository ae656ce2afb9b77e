"""From the settings of tasks on texts to tasks, the model that they share, and how to save it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from avil_fast.config.model import TextModelConfig
from avil_fast.config.text_tasks import METRICS, SplitFiles, TextTaskConfig
from avil_fast.errors import AvilError
from avil_fast.randomness import derive_seed
from avil_fast.tasks.model_format import ModelFormat
from avil_fast.tasks.task import Task
from avil_fast.tasks.text import examples, labels, sources, splits
from avil_fast.tasks.text.completions import IGNORED, Completions
from avil_fast.tasks.text.demonstrations import Demonstrated
from avil_fast.tasks.text.labelled_texts import Texts
from avil_fast.tasks.text.loading import Zero3, load_tokenizer
from avil_fast.tasks.text.losses import HeadLoss, next_token_loss
from avil_fast.tasks.text.metrics import TextMetric
from avil_fast.tasks.text.network import network
from avil_fast.tasks.text.packing import Packed, pad_packed
from avil_fast.tasks.text.text_data import TextData, read_data


def build(
    configs: Mapping[str, TextTaskConfig], model: TextModelConfig, target: str, seed: int, zero3: Zero3 = None
) -> tuple[nn.Module, list[Task], ModelFormat]:
    """The tasks, target first, the model that they share, and how to save it.

    Args:
        configs: by name.
        model: its settings.
        target: name of the target.
        seed: of what is drawn: rows, heads, adapters, fresh parameters.
        zero3: see `loading.Zero3`.

    Raises:
        AvilError: data or model cannot be used, or rows leak into the target's dev or test set.
    """
    data = read_data(configs, model, target, seed)
    clean = splits.without_leaks(data.read, target, data.configs)
    shared, model_format = network(data, model, target, seed, zero3)
    tasks = []
    for name, config in data.configs.items():
        # Of an auxiliary nothing but train is used.
        used = clean[name] if name == target else {"train": clean[name]["train"]}
        tasks.append(_task(name, config, used, data, model, seed))
    return shared, tasks, model_format


def build_test(
    name: str, config: TextTaskConfig, model: TextModelConfig, files: Sequence[Path]
) -> tuple[nn.Module, Task]:
    """A model that was trained on a task, and the task with these files as its test set; its own are not read.

    Args:
        config: the task's, which names the classes of a classification.

    Raises:
        AvilError: a file or the model cannot be used.
    """
    if config.demonstrations:
        raise AvilError(
            f"tasks.{name}.demonstrations are drawn from train, which a file to measure on does not bring; "
            f"set tasks.{name}.files={{train: ..., test: ...}} in place of --test"
        )
    own: dict[str, Any] = {
        "files": SplitFiles(train=tuple(files), test=tuple(files)),
        "dataset": None,
        "subset": None,
    }
    config = config.model_copy(update=own | {"splits": None, "hold_out": None})
    tokenizer = load_tokenizer(model)
    table = sources.read(name, config, ("test",))["test"]
    classes = labels.classes_of(name, config, table) if config.kind == "classification" else ()
    part = {"test": examples.read(name, config, table, classes, tokenizer)}
    data = TextData({name: config}, {name: part}, tokenizer, {name: classes})
    shared, _ = network(data, model, name, 0, None)
    return shared, _task(name, config, part | {"train": part["test"]}, data, model, 0)


def encode(
    name: str, config: TextTaskConfig, parts: splits.Splits, tokenizer: Any, model: TextModelConfig, seed: int
) -> dict[str, Any]:
    """The dataset of each split."""
    if config.kind != "language_modelling":
        return {split: Texts(part, tokenizer, model.max_length, config.too_long) for split, part in parts.items()}
    plain = {
        split: Completions(part, tokenizer, model.max_length, config.too_long) for split, part in parts.items()
    }
    if config.packing:
        return {split: Packed(part, model.max_length) for split, part in plain.items()}
    if config.demonstrations:
        between = tokenizer(config.separator, add_special_tokens=False)["input_ids"]
        fixed = derive_seed(seed, name, "demonstrations") >> 8
        return {
            split: Demonstrated(
                part,
                plain["train"],
                config.demonstrations,
                between,
                model.max_length,
                tokenizer.eos_token_id,
                None if split == "train" else fixed,
            )
            for split, part in plain.items()
        }
    return dict(plain)


def _task(
    name: str, config: TextTaskConfig, parts: splits.Splits, data: TextData, model: TextModelConfig, seed: int
) -> Task:
    from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding

    sets: dict[str, Any] = encode(name, config, parts, data.tokenizer, model, seed)
    tokenizer = copy.copy(data.tokenizer)  # which is saved with the side that it has
    tokenizer.padding_side = "right"
    collate: Any
    if config.kind == "language_modelling":
        collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
        if config.packing:
            collate = partial(pad_packed, pad=tokenizer.pad_token_id)
        metric = TextMetric(config.metric, None) if config.metric else None
        return Task(name, **sets, loss=next_token_loss, metric=metric, collate=collate)
    metric = TextMetric(config.metric or METRICS[config.kind][0], name, len(data.classes[name]))
    return Task(
        name,
        **sets,
        loss=HeadLoss(name, config.kind == "regression"),
        metric=metric,
        head=f"heads.{name}",
        collate=DataCollatorWithPadding(tokenizer),
    )
