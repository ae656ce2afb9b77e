"""How a transformers model is run in training: without a cache, with gradient checkpointing, compiled."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from torch import nn

from avil_fast.config.model import TextModelConfig


def prepare_(model: Any, config: TextModelConfig) -> None:
    """Take the cache of keys away, which training does not use; checkpoint gradients and compile, if asked to."""
    model.config.use_cache = False  # with one, transformers does not look for packed examples
    if config.gradient_checkpointing:
        how = {"use_reentrant": False}
        if hasattr(model, "activation_checkpointing_enable"):  # its name from late releases of transformers 5 on
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
        _in_eval_mode_too_(model)
    if config.compile:
        model.compile(dynamic=True)  # batches have all lengths


def _in_eval_mode_too_(model: Any) -> None:
    """Have layers compute their activations again in the α phase as well, which is backward in eval mode.

    transformers looks at a layer's own `training`, so that stays on; its parts follow the model's mode. Layers
    with a dropout of their own keep their activations there.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer) and "self.training" not in inspect.getsource(
            type(layer).forward
        ):
            layer.train = partial(_train_parts, layer)


def _train_parts(layer: nn.Module, mode: bool = True) -> nn.Module:
    """`train` of a layer that counts as training itself, whatever its parts do."""
    layer.training = True
    for part in layer.children():
        part.train(mode)
    return layer
