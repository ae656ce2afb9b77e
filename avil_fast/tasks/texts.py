"""Classification of texts: a dataset of token ids, and a task on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from avil_fast.tasks.task import Task


class Texts(Dataset[dict[str, Any]]):
    """Texts as token ids, cut to `max_length` tokens, not padded; a dict with `label` for each.

    Args:
        tokenizer: of transformers.
        texts, labels: equally many; labels count from 0.
        max_length: special tokens included.
    """

    def __init__(self, tokenizer: Any, texts: Sequence[str], labels: Sequence[int], max_length: int) -> None:
        columns = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False) if texts else {}
        self._columns: dict[str, Sequence[Any]] = {**columns, "label": list(labels)}

    def __len__(self) -> int:
        return len(self._columns["label"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: column[index] for name, column in self._columns.items()}


def classification(
    name: str, tokenizer: Any, train: Texts, dev: Texts | None = None, test: Texts | None = None
) -> Task:
    """A task with cross-entropy and accuracy for a `TextEncoder`, padded batch by batch."""
    from transformers import DataCollatorWithPadding

    def logits(model: nn.Module, batch: Any) -> Tensor:
        found: Tensor = model(name, **{key: value for key, value in batch.items() if key != "labels"})
        return found

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return functional.cross_entropy(logits(model, batch), batch["labels"])

    def accuracy(model: nn.Module, batch: Any) -> Tensor:
        correct: Tensor = logits(model, batch).argmax(dim=1) == batch["labels"]
        return correct

    collate: Any = DataCollatorWithPadding(tokenizer)
    return Task(name, train, loss, dev=dev, test=test, metric=accuracy, head=f"heads.{name}", collate=collate)
