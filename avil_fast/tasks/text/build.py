"""From the settings of tasks on texts to tasks, a model, and how to save it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avil_fast.config.model import CausalLMConfig, EncoderConfig
from avil_fast.config.tasks import METRICS, SplitFiles, TextTaskConfig
from avil_fast.errors import AvilError
from avil_fast.randomness import derive_seed
from avil_fast.tasks.model_format import ModelFormat
from avil_fast.tasks.task import Task
from avil_fast.tasks.text import examples, lora, probe, splits, tables
from avil_fast.tasks.text.completions import IGNORED, Completions
from avil_fast.tasks.text.demonstrations import Demonstrated
from avil_fast.tasks.text.heads import SharedBody, attach
from avil_fast.tasks.text.labelled_texts import Texts
from avil_fast.tasks.text.loading import (
    Zero3,
    load_causal_lm,
    load_encoder,
    load_tokenizer,
    prepare_,
    settings_of,
)
from avil_fast.tasks.text.losses import HeadLoss, next_token_loss
from avil_fast.tasks.text.metrics import TextMetric
from avil_fast.tasks.text.packing import Packed, pad_packed
from avil_fast.tasks.text.saving import causal_lm, encoder

Model = EncoderConfig | CausalLMConfig


@dataclass(frozen=True)
class TextData:
    """What the tasks are made of, before a model is loaded.

    Attributes:
        configs: by task, target first.
        read: all rows by task and split, after some were held out and limits were kept.
        tokenizer: of the model.
        classes: names of a classification's classes, by task.
    """

    configs: Mapping[str, TextTaskConfig]
    read: Mapping[str, splits.Splits]
    tokenizer: Any
    classes: Mapping[str, Sequence[str]]


def read_data(
    configs: Mapping[str, TextTaskConfig], model: Model, target: str, seed: int, everything: bool = False
) -> TextData:
    """Read the rows of all tasks; leaks are not looked for.

    Args:
        everything: the dev and test sets of auxiliaries, too, which a run has no use for.

    Raises:
        AvilError: the target is none of the tasks, or something cannot be read; names file and line.
    """
    if target not in configs:
        known = ", ".join(configs) or "none"
        raise AvilError(f"target is {target!r}, but the tasks are {known}; name one of them")
    for name in configs:
        if not name or "." in name or "/" in name:
            raise AvilError(f"a task is named {name!r}, but a name has no . or / in it; rename it")
    configs = {target: configs[target]} | dict(configs)
    tokenizer = load_tokenizer(model)
    read: dict[str, splits.Splits] = {}
    classes: dict[str, Sequence[str]] = {}
    for task, config in configs.items():
        wanted = tuple(tables.NAMES) if everything or task == target else ("train",)
        tables_of = tables.read(task, config, wanted)
        classes[task] = ()
        if config.kind == "classification":
            classes[task] = examples.classes_of(task, config, tables_of["train"])
        found = {
            split: examples.read(task, config, table, classes[task], tokenizer)
            for split, table in tables_of.items()
        }
        if config.hold_out is not None:
            found = splits.hold_out(task, found, config.hold_out, seed)
        read[task] = splits.limit(task, found, config.limits, seed)
    if "dev" not in read[target]:
        raise AvilError(
            f"tasks.{target} is the target, but has no dev set, which α is learned on; give it one, or set "
            f"tasks.{target}.hold_out.dev=100"
        )
    return TextData(configs, read, tokenizer, classes)


def build(
    configs: Mapping[str, TextTaskConfig], model: Model, target: str, seed: int, zero3: Zero3 = None
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
    network, model_format = _network(data, model, target, seed, zero3)
    tasks = []
    for name, config in data.configs.items():
        # Of an auxiliary nothing but train is used.
        used = clean[name] if name == target else {"train": clean[name]["train"]}
        tasks.append(_task(name, config, used, data, model, seed))
    return network, tasks, model_format


def build_test(name: str, config: TextTaskConfig, model: Model, files: Sequence[Path]) -> tuple[nn.Module, Task]:
    """A model that was trained on a task, and the task with these files as its test set; its own are not read.

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
    if config.kind == "classification" and config.labels is None:
        own["labels"] = tuple(settings_of(model).id2label.values())
    config = config.model_copy(update=own | {"splits": None, "hold_out": None})
    tokenizer = load_tokenizer(model)
    table = tables.read(name, config, ("test",))["test"]
    classes = examples.classes_of(name, config, table) if config.kind == "classification" else ()
    part = {"test": examples.read(name, config, table, classes, tokenizer)}
    data = TextData({name: config}, {name: part}, tokenizer, {name: classes})
    network, _ = _network(data, model, name, 0, None)
    return network, _task(name, config, part | {"train": part["test"]}, data, model, 0)


def encode(
    name: str, config: TextTaskConfig, parts: splits.Splits, tokenizer: Any, model: Model, seed: int
) -> dict[str, Any]:
    """The data set of each split."""
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
    name: str, config: TextTaskConfig, parts: splits.Splits, data: TextData, model: Model, seed: int
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


def _network(data: TextData, config: Model, target: str, seed: int, zero3: Zero3) -> tuple[nn.Module, ModelFormat]:
    tokenizer = data.tokenizer
    model: Any
    if isinstance(config, CausalLMConfig):
        model = load_causal_lm(config, tokenizer, seed, zero3)
        if zero3 is None and any(task.packing for task in data.configs.values()):
            probe.require_packable(model, config.path)
        settings = copy.deepcopy(model.config)
        if config.lora is not None:
            lora.adapt_(model, config.lora, derive_seed(seed, "lora"))
        prepare_(model, config)
        return model, causal_lm(config, model, settings, tokenizer)
    shared = _shared(data, config, target, seed, zero3)
    settings = copy.deepcopy(shared.whole(target).config)
    if config.lora is not None:
        lora.adapt_(shared.body, config.lora, derive_seed(seed, "lora"))
    prepare_(shared.body, config)
    return shared, encoder(config, shared, target, settings, tokenizer)


def _shared(data: TextData, config: EncoderConfig, target: str, seed: int, zero3: Zero3) -> SharedBody:
    outputs = {task: len(data.classes[task]) or 1 for task in data.configs}
    loaded = load_encoder(config, data.tokenizer, data.classes[target], outputs[target], seed, zero3)
    body, kind = loaded.model.base_model, type(loaded.model)
    models = {}
    for task in data.configs:
        settings = copy.deepcopy(loaded.model.config)
        settings.num_labels = outputs[task]
        regression = data.configs[task].kind == "regression"
        settings.problem_type = "regression" if regression else "single_label_classification"
        if classes := data.classes[task]:
            settings.id2label = dict(enumerate(classes))
            settings.label2id = {name: number for number, name in enumerate(classes)}
        body_only = f"{loaded.model.base_model_prefix}."
        if task == target and all(name.startswith(body_only) for name in loaded.missing):
            loaded.model.config = settings
            models[task] = loaded.model
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "heads", task))
            models[task] = attach(body, settings, kind)
    return SharedBody(models)
