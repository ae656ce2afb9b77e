"""What kinds of data a task may have: map-style Datasets, and iterables that bring batches of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, cast

from torch.utils.data import DataLoader, Dataset, IterableDataset

from avil_fast.errors import AvilError
from avil_fast.tasks.task import Data, Task


def is_dataset(data: Data) -> bool:
    """Whether `data` is a map-style torch Dataset rather than an iterable of batches."""
    indexed = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    # Datasets of other libraries are not torch's, but have the same two methods and no batches.
    return indexed or (
        hasattr(data, "__getitems__") and hasattr(data, "__len__") and not isinstance(data, DataLoader)
    )


def length_of(data: Data) -> int | None:
    """Its `len`; None if it has none."""
    try:
        return len(cast(Sized, data))
    except TypeError:
        return None


def require_data(data: Data, what: str) -> None:
    """Refuse an empty set, a Dataset without a length, and an iterator that can be walked only once."""
    if isinstance(data, Iterator):
        raise AvilError(f"{what} is a one-shot {type(data).__name__}; pass a list, a Dataset or a DataLoader")
    length = length_of(data)
    if length is None and is_dataset(data):
        raise AvilError(f"{what} is a {type(data).__name__} without a len(); give it a method __len__")
    if length == 0:
        raise AvilError(f"{what} is empty; give it at least one example")


def about_data(task: Task) -> dict[str, Any]:
    """What the data of two ranks or runs are compared by: lengths, and digests of data that has one.

    In JSON's types.
    """
    data = {"train": task.train, "dev": task.dev, "test": task.test}
    sizes = {split: None if own is None else length_of(own) for split, own in data.items()}
    digests = {split: cast(Any, own).digest for split, own in data.items() if hasattr(own, "digest")}
    return {"name": task.name, **sizes} | ({"digest": digests} if digests else {})
