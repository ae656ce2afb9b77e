"""Low-rank adapters (LoRA, arXiv 2106.09685), put into a model by peft."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from avil_fast.errors import AvilError
from avil_fast.model_config import LoraConfig
from avil_fast.tasks.text.packages import require

ADAPTER = "default"
"""peft's name of an adapter, which is part of parameters' names."""


def peft_config(config: LoraConfig, base: str | None = None, task_type: str | None = None) -> Any:
    """peft's own settings."""
    import peft

    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=2 * config.rank if config.alpha is None else config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        base_model_name_or_path=base,
        task_type=task_type,
    )


def adapt_(model: nn.Module, config: LoraConfig, seed: int) -> None:
    """Give a model's layers adapters, and freeze all else of it.

    A is drawn with the seed, B is 0. In the space B, A is frozen too: the change of a layer's weight is then
    linear in what is trained, and a sum of deltas is exactly the sum of the changes.

    Raises:
        AvilError: peft is missing, or no layer has one of the names.
    """
    require("peft")
    import peft

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            peft.inject_adapter_in_model(peft_config(config), model, ADAPTER)
        except ValueError as error:
            layers = sorted(
                {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear)}
            )
            raise AvilError(
                f"model.lora.targets is {config.targets!r}, which peft refuses; layers are called "
                f"{', '.join(layers[:20])}"
            ) from error
    if config.space == "B":
        for name, parameter in model.named_parameters():
            if ".lora_A." in name or ".lora_embedding_A." in name:
                parameter.requires_grad_(False)


def saved_name(name: str) -> str | None:
    """A parameter's name in the adapter's file, by its name in the plain model; None for one of the base model."""
    return f"base_model.model.{name}".replace(f".{ADAPTER}", "") if "lora_" in name else None
