"""What the tasks' data looks like: sizes, labels, lengths, leaks, and examples as the model sees them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from avil_fast.config.model import TextModelConfig
from avil_fast.tasks.text import splits
from avil_fast.tasks.text.build import encode
from avil_fast.tasks.text.completions import IGNORED
from avil_fast.tasks.text.examples import Examples
from avil_fast.tasks.text.text_data import TextData, read_data


@dataclass(frozen=True)
class SplitOverview:
    """A split of a task.

    Attributes:
        task, split: whose.
        examples: rows that are used.
        items: what the model is given of them: pieces of long texts, or several in one.
        labels: examples by class; of a regression smallest, mean and largest value.
        tokens: of an item: median, 95th percentile, longest.
        cut: examples with more tokens than the model reads.
        repeated: examples whose text stands in the split once more.
        shown: an item as text, in parts with whether they are learned.
    """

    task: str
    split: str
    examples: int
    items: int
    labels: dict[str, float]
    tokens: dict[str, int]
    cut: int
    repeated: int
    shown: list[tuple[str, bool]]


@dataclass(frozen=True)
class Leak:
    """Rows of the target's dev or test set that stand elsewhere, too, and what `overlap` says about them."""

    sentence: str
    overlap: str

    @property
    def stops(self) -> bool:
        """Whether a run is refused for it."""
        return self.overlap == "stop"


@dataclass(frozen=True)
class Overview:
    """All splits of all tasks, and the leaks between them."""

    splits: list[SplitOverview]
    leaks: list[Leak]
    max_length: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def overview(configs: Any, model: TextModelConfig, target: str, seed: int) -> Overview:
    """Read and encode everything, train nothing.

    Raises:
        AvilError: something cannot be read.
    """
    data = read_data(configs, model, target, seed, everything=True)
    of_splits = [split for task in data.configs for split in _of_task(task, data, model, seed)]
    found = splits.overlaps(data.read, target)
    return Overview(of_splits, [_leak(leak, data, target) for leak in found], model.max_length)


def _leak(found: splits.Overlap, data: TextData, target: str) -> Leak:
    overlap = data.configs[found.task].overlap
    return Leak(splits.sentence(found, data.read, target, stops=overlap == "stop"), overlap)


def _of_task(task: str, data: TextData, model: TextModelConfig, seed: int) -> list[SplitOverview]:
    config = data.configs[task]
    sets = encode(task, config, data.read[task], data.tokenizer, model, seed)
    found = []
    for split, items in sets.items():
        examples = data.read[task][split]
        lengths = np.array([items.length(index) for index in range(len(items))])
        tokens = {
            "median": int(np.median(lengths)),
            "95 %": int(np.percentile(lengths, 95)),
            "longest": int(lengths.max()),
        }
        keys = Counter(examples.key(index) for index in range(len(examples)))
        found.append(
            SplitOverview(
                task=task,
                split=split,
                examples=len(examples),
                items=len(items),
                labels=_labels(examples, data.classes[task]),
                tokens=tokens,
                cut=items.cut,
                repeated=sum(count - 1 for count in keys.values()),
                shown=_shown(items[0], data.tokenizer),
            )
        )
    return found


def _labels(examples: Examples, classes: Any) -> dict[str, float]:
    if examples.labels is None:
        return {}
    if classes:
        counts = Counter(examples.labels)
        return {name: counts[number] for number, name in enumerate(classes)}
    values = np.array(examples.labels)
    return {"smallest": float(values.min()), "mean": float(values.mean()), "largest": float(values.max())}


def _shown(item: dict[str, Any], tokenizer: Any) -> list[tuple[str, bool]]:
    """An item's text, special tokens included, cut where it begins or ends to be learned."""
    ids = item["input_ids"]
    learned = [label != IGNORED for label in item["labels"]] if "labels" in item else [False] * len(ids)
    parts: list[tuple[str, bool]] = []
    start = 0
    for stop in range(1, len(ids) + 1):
        if stop == len(ids) or learned[stop] != learned[start]:
            parts.append((tokenizer.decode(ids[start:stop]), learned[start]))
            start = stop
    return parts
