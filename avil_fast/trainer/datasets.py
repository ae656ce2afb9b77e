"""What an AvilTrainer makes of the datasets that it is given, or why it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from avil_fast.errors import AvilError
from avil_fast.tasks.data_kinds import require_data


def require_datasets(target: str, train: Any, dev: Any, test: Any, heads: Mapping[str, str]) -> None:
    """Refuse data that cannot be trained on.

    Raises:
        AvilError: names the argument and what to do.
    """
    if not isinstance(train, Mapping):
        raise AvilError(
            f"train_datasets is a {type(train).__name__}, but must be a mapping of tasks' names to datasets"
        )
    if target not in train:
        raise AvilError(f"target is {target!r}, but train_datasets has {', '.join(train)}; name one of them")
    if unknown := [name for name in heads if name not in train]:
        raise AvilError(f"heads has {unknown[0]!r}, but train_datasets has {', '.join(train)}; name one of them")
    if dev is None:
        raise AvilError(f"eval_dataset is missing; give the dev set of {target!r}, which α is learned on")
    if isinstance(dev, dict):
        raise AvilError(
            f"eval_dataset holds {', '.join(map(str, dev))}, but α is learned on one dev set; give that of "
            f"{target!r}"
        )
    named = {f"train_datasets[{name!r}]": data for name, data in train.items()}
    named |= {"eval_dataset": dev} | ({} if test is None else {"test_dataset": test})
    for what, data in named.items():
        indexed = hasattr(type(data), "__len__") and hasattr(type(data), "__getitem__")
        if not indexed or isinstance(data, IterableDataset):
            raise AvilError(
                f"{what} is a {type(data).__name__}, which has no length or no index; give a map-style Dataset"
            )
        require_data(data, what)


class IndexedDataset(Dataset[Any]):
    """A dataset of any library, or a list, as one of torch's.

    Attributes:
        weights: what each example counts in a mean over a batch, by its labels; None where all count alike.
    """

    def __init__(self, data: Any, weights: Sequence[int] | None = None) -> None:
        self.weights = weights
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        return self._data[index]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        many = getattr(self._data, "__getitems__", None)
        return [self._data[index] for index in indices] if many is None else list(many(indices))


def label_counts(data: Any, shifted: bool) -> list[int] | None:
    """How many labels the loss of each example is a mean over.

    Args:
        data: of the datasets library; its column `labels` is looked at.
        shifted: the first label of a sequence is never predicted.

    Returns:
        At least 1 each; None if the examples have one label each, or as many.
    """
    if "labels" not in data.column_names:
        return None
    column = data.with_format(None)["labels"]
    if not isinstance(column[0], list) or (column[0] and isinstance(column[0][0], list)):
        return None
    counts = [max(1, sum(label != -100 for label in labels[int(shifted) :])) for labels in column]
    return counts if len(set(counts)) > 1 else None
