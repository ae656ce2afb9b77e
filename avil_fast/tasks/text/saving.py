"""Results as transformers saves models, and adapters as peft does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from avil_fast.config.model import CausalLMConfig, EncoderConfig
from avil_fast.tasks.model_format import ModelFormat, Named
from avil_fast.tasks.text import lora
from avil_fast.tasks.text.heads import SharedBody
from avil_fast.tasks.text.model_path import resolve


def encoder(config: EncoderConfig, model: SharedBody, target: str, settings: Any, tokenizer: Any) -> ModelFormat:
    """The target's model for AutoModelForSequenceClassification; adapters are merged into its weights."""
    settings.architectures = [type(model.whole(target)).__name__]

    def tensors(given: Named) -> Named:
        plain = lora.merged(given, model) if config.lora is not None else given
        return ((name, tensor) for own, tensor in plain if (name := model.plain_name(own, target)) is not None)

    def write(folder: Path) -> None:
        settings.save_pretrained(folder)
        _save(tokenizer, folder, model_max_length=config.max_length)  # so that a pipeline cuts where training did

    return ModelFormat(tensors, write)


def causal_lm(config: CausalLMConfig, model: Any, settings: Any, tokenizer: Any) -> ModelFormat:
    """A model for AutoModelForCausalLM; adapters are merged into its weights, and in the folder `adapter`, too."""
    settings.architectures = [type(model).__name__]
    kept: dict[str, Tensor] = {}

    def tensors(given: Named) -> Named:
        return lora.merged(_keeping(given, kept), model) if config.lora is not None else given

    def write(folder: Path) -> None:
        settings.save_pretrained(folder)
        if getattr(model, "generation_config", None) is not None:
            model.generation_config.save_pretrained(folder)
        _save(tokenizer, folder)
        if config.lora is not None:
            _write_adapter(folder.with_name("adapter"), config, kept)

    return ModelFormat(tensors, write)


def _keeping(tensors: Named, kept: dict[str, Tensor]) -> Named:
    """The tensors, and copies of those of adapters."""
    for name, tensor in tensors:
        if (saved := lora.saved_name(name)) is not None:
            kept[saved] = tensor.detach().to("cpu", copy=True).contiguous()
        yield name, tensor


def _write_adapter(folder: Path, config: CausalLMConfig, tensors: dict[str, Tensor]) -> None:
    """Of the very weights that were trained, for peft and the model that they were trained on."""
    assert config.lora is not None
    source, fetched = resolve(config.path)
    base = source if fetched else str(Path(source).resolve())
    adapter = lora.peft_config(config.lora, base, "CAUSAL_LM")
    adapter.inference_mode = True
    folder.mkdir(exist_ok=True)
    adapter.save_pretrained(str(folder))
    safetensors.torch.save_file(tensors, str(folder / "adapter_model.safetensors"), {"format": "pt"})


def _save(tokenizer: Any, folder: Path, **attributes: Any) -> None:
    """The tokenizer, with other attributes for as long as it is saved."""
    before = {name: getattr(tokenizer, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(tokenizer, name, value)
        tokenizer.save_pretrained(folder)
    finally:
        for name, value in before.items():
            setattr(tokenizer, name, value)
