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

from avil_fast.errors import AvilError
from avil_fast.model_config import CausalLMConfig, EncoderConfig
from avil_fast.task_config import METRICS, TextTaskConfig
from avil_fast.tasks.batches import derive_seed
from avil_fast.tasks.export import Export
from avil_fast.tasks.task import Task
from avil_fast.tasks.text import encoded, examples, lora, splits, tables
from avil_fast.tasks.text.forward import HeadLoss, next_token_loss
from avil_fast.tasks.text.heads import SharedBody, attach
from avil_fast.tasks.text.loading import Zero3, load_causal_lm, load_encoder, load_tokenizer, prepare_
from avil_fast.tasks.text.metrics import TextMetric
from avil_fast.tasks.text.model_path import resolve

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


def read_data(configs: Mapping[str, TextTaskConfig], model: Model, target: str, seed: int) -> TextData:
    """Read the rows of all tasks; leaks are not looked for.

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
        tables_of = tables.read(task, config)
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
) -> tuple[nn.Module, list[Task], Export]:
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
    network, export = _network(data, model, target, seed, zero3)
    tasks = []
    for name, config in data.configs.items():
        # Of an auxiliary nothing but train is used.
        used = clean[name] if name == target else {"train": clean[name]["train"]}
        tasks.append(_task(name, config, used, data, model, seed))
    return network, tasks, export


def encode(
    name: str, config: TextTaskConfig, parts: splits.Splits, tokenizer: Any, model: Model, seed: int
) -> dict[str, Any]:
    """The data set of each split."""
    if config.kind != "language_modelling":
        return {
            split: encoded.Texts(part, tokenizer, model.max_length, config.too_long)
            for split, part in parts.items()
        }
    plain = {
        split: encoded.Completions(part, tokenizer, model.max_length, config.too_long)
        for split, part in parts.items()
    }
    if config.packing:
        return {split: encoded.Packed(part, model.max_length) for split, part in plain.items()}
    if config.demonstrations:
        between = tokenizer(config.separator, add_special_tokens=False)["input_ids"]
        fixed = derive_seed(seed, name, "demonstrations") >> 8
        return {
            split: encoded.Demonstrated(
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

    tokenizer = data.tokenizer
    sets: dict[str, Any] = encode(name, config, parts, tokenizer, model, seed)
    collate: Any
    if config.kind == "language_modelling":
        collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=encoded.IGNORED)
        if config.packing:
            collate = partial(encoded.pad_packed, pad=tokenizer.pad_token_id)
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


def _network(data: TextData, config: Model, target: str, seed: int, zero3: Zero3) -> tuple[nn.Module, Export]:
    tokenizer = data.tokenizer
    if isinstance(config, CausalLMConfig):
        model = load_causal_lm(config, tokenizer, seed, zero3)
        settings = copy.deepcopy(model.config)
        if config.lora is not None:
            lora.adapt_(model, config.lora, derive_seed(seed, "lora"))
        prepare_(model, config)
        names: Any = lambda name: name  # noqa: E731
        return model, _export(config, names, settings, model, tokenizer, "CAUSAL_LM", [])
    shared = _shared(data, config, target, seed, zero3)
    whole = shared.whole(target)
    settings = copy.deepcopy(whole.config)
    if config.lora is not None:
        lora.adapt_(shared.body, config.lora, derive_seed(seed, "lora"))
    prepare_(shared.body, config)
    heads = [name for name, part in shared.heads[target].named_children() if any(True for _ in part.parameters())]
    names = partial(shared.plain_name, task=target)
    return shared, _export(config, names, settings, whole, tokenizer, "SEQ_CLS", heads)


def _shared(data: TextData, config: EncoderConfig, target: str, seed: int, zero3: Zero3) -> SharedBody:
    outputs = {task: len(data.classes[task]) or 1 for task in data.configs}
    loaded = load_encoder(config, data.tokenizer, outputs[target], seed, zero3)
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


def _export(
    config: Model, names: Any, settings: Any, model: Any, tokenizer: Any, task_type: str, heads: Sequence[str]
) -> Export:
    """As transformers saves a model, or peft an adapter."""
    settings.architectures = [type(model).__name__]
    if config.lora is None:

        def write(folder: Path) -> None:
            settings.save_pretrained(folder)
            if getattr(model, "generation_config", None) is not None:
                model.generation_config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

        return Export(names, write)
    adapter = lora.peft_config(config.lora, resolve(config.path)[0], task_type)
    adapter.inference_mode = True
    adapter.modules_to_save = list(heads) or None

    def adapter_name(name: str) -> str | None:
        plain = names(name)
        if plain is None or plain.partition(".")[0] in heads:
            return plain and f"base_model.model.{plain}"
        return lora.saved_name(plain)

    def write_adapter(folder: Path) -> None:
        adapter.save_pretrained(str(folder))
        settings.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return Export(adapter_name, write_adapter, "adapter_model")
