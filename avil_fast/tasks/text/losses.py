"""Logits and losses of the models for texts."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional


def logits_of(model: nn.Module, task: str | None, batch: Any) -> Tensor:
    """What the model says about a batch.

    Args:
        task: whose head answers, [batch, outputs]; None for a causal language model, [batch, length, vocabulary].
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    found: Tensor = (model(**inputs) if task is None else model(task, **inputs)).logits
    return found


class HeadLoss:
    """Cross-entropy of a task's classes, or the mean squared error of its values."""

    def __init__(self, task: str, regression: bool) -> None:
        self._task, self._regression = task, regression

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        logits, labels = logits_of(model, self._task, batch).float(), batch["labels"]
        if self._regression:
            return functional.mse_loss(logits.squeeze(1), labels.float())
        return functional.cross_entropy(logits, labels)


def next_token_loss(model: nn.Module, batch: Any) -> Tensor:
    """The model's own loss: the mean cross-entropy over the tokens that are learned."""
    loss: Tensor = model(**batch).loss
    return loss
