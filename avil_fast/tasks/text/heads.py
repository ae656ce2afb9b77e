"""A model of transformers for classification that several tasks share, with a head of its own for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from avil_fast.errors import AvilError


class SharedBody(nn.Module):
    """One body, and for each task what transformers puts on top of it.

    A task's whole model is that of transformers: its head is `heads.TASK`, with the names that transformers gives
    its parts, and its parameters can be saved as those of a plain model.

    Args:
        models: by task, all with the same body (`attach` makes them so).

    Raises:
        AvilError: a task has a name that torch does not allow.
    """

    def __init__(self, models: Mapping[str, Any]) -> None:
        super().__init__()
        for task in models:
            if hasattr(nn.ModuleDict, task):
                raise AvilError(f"a task is named {task!r}, which is a word of torch's; rename it")
        first = next(iter(models.values()))
        self.prefix: str = first.base_model_prefix
        self.body = first.base_model
        self.heads = nn.ModuleDict({task: nn.ModuleDict(_head(model)) for task, model in models.items()})
        # No child modules: every part has one place, or ZeRO would handle the body once for each task.
        self._models = dict(models)

    def forward(self, task: str, **inputs: Any) -> Any:
        """What the task's model returns; `logits` are [batch, outputs]."""
        return self._models[task](**inputs)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for model in self._models.values():
            model.training = mode
        return self

    def whole(self, task: str) -> Any:
        """A task's model of transformers."""
        return self._models[task]

    def plain_name(self, name: str, task: str) -> str | None:
        """A parameter's name in the model of a task; None if it is not part of it."""
        place, _, rest = name.partition(".")
        if place == "body":
            return f"{self.prefix}.{rest}"
        owner, _, rest = rest.partition(".")
        return rest if owner == task else None


def attach(body: Any, config: Any, kind: Any) -> Any:
    """A model of a class of transformers with this body and a fresh head, which torch's global seed decides.

    Raises:
        AvilError: the class has parameters outside of body and head, which cannot be shared or owned.
    """
    with torch.device("meta"):
        model = kind(config)  # its own body is never allocated
    setattr(model, model.base_model_prefix, body)
    dtype = next(body.parameters()).dtype
    for part in _head(model).values():
        part.to_empty(device="cpu")
        for module in part.modules():
            module._is_hf_initialized = False  # type: ignore[assignment]  # transformers' own mark
        part.apply(model._init_weights)
        part.to(dtype)
    return model


def _head(model: Any) -> dict[str, nn.Module]:
    """What lies on top of a model's body, by name."""
    own = [name for name, _ in model.named_parameters(recurse=False)]
    if own:
        raise AvilError(
            f"{type(model).__name__} has parameters of its own ({own[0]}), which no task can own; name a model of "
            f"another kind in model.path"
        )
    return {name: part for name, part in model.named_children() if name != model.base_model_prefix}
