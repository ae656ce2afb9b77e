"""The model that tasks on texts share: loaded, with a head for each task and adapters, as the settings ask for."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from avil_fast.config.model import CausalLMConfig, EncoderConfig, TextModelConfig
from avil_fast.randomness import derive_seed
from avil_fast.tasks.model_format import ModelFormat
from avil_fast.tasks.text import lora, probe
from avil_fast.tasks.text.heads import SharedBody, attach
from avil_fast.tasks.text.loading import Zero3, load_causal_lm, load_encoder
from avil_fast.tasks.text.saving import causal_lm, encoder
from avil_fast.tasks.text.text_data import TextData
from avil_fast.tasks.text.training_options import prepare_


def network(
    data: TextData, config: TextModelConfig, target: str, seed: int, zero3: Zero3
) -> tuple[nn.Module, ModelFormat]:
    """The model that the tasks share, with its adapters, and how to save it."""
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
