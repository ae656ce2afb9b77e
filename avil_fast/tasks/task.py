"""A task: its data, its loss, and the part of the model that is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

Batch = Any
Data = Dataset[Any] | Iterable[Batch]


@dataclass
class Task:
    """One task.

    Attributes:
        name: as used in settings and results.
        train: a map-style torch Dataset (batched and shuffled for you), or an iterable of batches that
            can be iterated again and again, such as a list or a DataLoader.
        loss: `loss(model, batch)`, a scalar tensor, the mean over the batch.
        dev: needed for the target: α is learned on it. Keep it much smaller than `train`.
        test: measured every round, never learned from.
        metric: `metric(model, batch)`, one value per example, shape [batch], higher is better; its mean
            over the dev set chooses the best round. Without one the dev loss does.
        head: prefix of the names of the parameters that only this task's loss uses. They stay outside δ.
        collate: makes a batch of a list of items of a Dataset; torch's default if None.
    """

    name: str
    train: Data
    loss: Callable[[nn.Module, Batch], Tensor]
    dev: Data | None = None
    test: Data | None = None
    metric: Callable[[nn.Module, Batch], Tensor] | None = None
    head: str | None = None
    collate: Callable[[list[Any]], Batch] | None = None
