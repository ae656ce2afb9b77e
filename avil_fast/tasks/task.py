"""A task: its data, its loss, and the part of the model that is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.utils.data import Dataset

Batch = Any
Data = Dataset[Any] | Iterable[Batch]


@runtime_checkable
class Scorer(Protocol):
    """A metric of a whole dev or test set that is no mean over examples, such as F1 or a correlation."""

    name: str
    higher_is_better: bool

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """What `score` needs of each example, labels included: a floating tensor [batch, k]."""

    def score(self, rows: Tensor) -> float:
        """The metric for [examples, k] fp64 in CPU memory, the rows of all ranks in any order."""


@dataclass
class Task:
    """One task.

    Attributes:
        name: as used in settings and results.
        train: a map-style torch Dataset (batched and shuffled for you), or an iterable of batches that
            can be iterated again and again, such as a list or a DataLoader. A Dataset whose examples do not
            count alike has an attribute `weights`, an int for each: tokens with a label, say.
            One that draws, to augment its examples, may have a method `draw(index, seed)` beside
            `__getitem__`: what it draws is then the same on any number of ranks.
        loss: `loss(model, batch)`, a scalar tensor, the mean over the batch, by `weights` if the data has them.
        dev: needed for the target: α is learned on it. Keep it much smaller than `train`.
        test: measured every round, never learned from.
        metric: `metric(model, batch)`, one value per example, shape [batch], higher is better; its mean
            over the dev set chooses the best round. Or a `Scorer`. Without one the dev loss does.
        head: prefix of the names of the parameters that only this task's loss uses. They stay outside δ.
        collate: makes a batch of a list of items of a Dataset; torch's default if None.
    """

    name: str
    train: Data
    loss: Callable[[nn.Module, Batch], Tensor]
    dev: Data | None = None
    test: Data | None = None
    metric: Callable[[nn.Module, Batch], Tensor] | Scorer | None = None
    head: str | None = None
    collate: Callable[[list[Any]], Batch] | None = None
