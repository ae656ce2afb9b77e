"""Low-rank adapters (LoRA, arXiv 2106.09685), put into a model by peft."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from avil_fast.config.model import LoraConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.text.packages import require

ADAPTER = "default"
"""peft's name of an adapter, which is part of parameters' names."""


def peft_config(config: LoraConfig, base: str | None = None, task_type: str | None = None) -> Any:
    """The settings of an adapter as peft takes them."""
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

    A is drawn with the seed, B is 0; of an embedding peft draws B. In the space B, what was drawn is frozen: the
    change of a layer's weight is then linear in what is trained, and a sum of deltas is the sum of changes.

    Raises:
        AvilError: peft is missing, or no layer has one of the names.
    """
    require("peft")
    import peft

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        try:
            warnings.simplefilter("ignore")  # peft tells which layout a layer has, and finds it out itself
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
            if ".lora_A." in name or ".lora_embedding_B" in name:
                parameter.requires_grad_(False)


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter."""
    return ".lora_" in name


def saved_name(name: str) -> str | None:
    """A parameter's name in an adapter's file, by its name in the plain model; None for one of the base model."""
    return f"base_model.model.{name}".replace(f".{ADAPTER}", "") if is_adapter(name) else None


def merged(tensors: Iterable[tuple[str, Tensor]], model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters of a plain model, W + (alpha / rank) · B A in place of W, A and B.

    Args:
        tensors: parameters and buffers by name, in the model's order; each is good until the next is asked for.
        model: with the adapters, for their scale and layout.
    """
    layers = dict(model.named_modules())
    name, weight, factors = "", torch.empty(0), []  # of the layer with an adapter that is at hand
    for own, tensor in tensors:
        if is_adapter(own):
            factors.append(tensor.float().clone())
            if len(factors) == 2:
                yield name, weight + _change(layers[name.rpartition(".")[0]], factors).to(weight)
        elif ".base_layer.weight" in own:
            name, weight, factors = own.replace(".base_layer", ""), tensor.clone(), []
        else:
            yield own.replace(".base_layer", ""), tensor


def _change(layer: Any, factors: list[Tensor]) -> Tensor:
    """What an adapter adds to its layer's weight."""
    product = factors[1] @ factors[0]
    turned = isinstance(layer.get_base_layer(), nn.Embedding) or layer.fan_in_fan_out
    change: Tensor = (product.T if turned else product) * layer.scaling[ADAPTER]
    return change
