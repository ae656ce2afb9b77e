"""Several completions in one sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avil_fast.tasks.text.completions import IGNORED, Completions


class Packed(Dataset[dict[str, list[int]]]):
    """Several examples in each item, as many as have room, none of which sees another.

    Each item has `position_ids` beside ids and labels: they begin anew with every example, from which transformers
    makes a mask of blocks. The first token of an example is not learned: it would be told by another example.

    Attributes:
        weights: learned tokens of each item.
        groups: the examples in each.
    """

    def __init__(self, completions: Completions, max_length: int) -> None:
        self._completions = completions
        self.examples, self.cut, self.digest = completions.examples, completions.cut, completions.digest
        lengths = [completions.length(index) for index in range(len(completions))]
        self.groups = pack(lengths, max_length)
        self.weights = [sum(completions.weights[index] for index in group) for group in self.groups]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        item: dict[str, list[int]] = {"input_ids": [], "labels": [], "position_ids": []}
        for example in self.groups[index]:
            part = self._completions[example]
            item["input_ids"] += part["input_ids"]
            item["labels"] += [IGNORED, *part["labels"][1:]]
            item["position_ids"] += range(len(part["input_ids"]))
        return item

    def length(self, index: int) -> int:
        """Tokens of an item."""
        return sum(self._completions.length(example) for example in self.groups[index])


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Groups of items whose lengths come to `capacity` at most: best fit, the longest first.

    At most 11/9 of the fewest groups there can be, and four (Johnson et al., SIAM J. Comput. 3, 1974).
    """
    groups: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # by free tokens: numbers of groups
    room = np.zeros(capacity + 1, dtype=bool)
    for item in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        size = lengths[item]
        free = size + int(room[size:].argmax()) if room[size:].any() else None
        if free is None:
            groups.append([item])
            group, left = len(groups) - 1, capacity - size
        else:
            group = with_room[free].pop()
            room[free] = bool(with_room[free])
            groups[group].append(item)
            left = free - size
        with_room[left].append(group)
        room[left] = True
    return groups


def pad_packed(items: Sequence[dict[str, list[int]]], pad: int) -> dict[str, Tensor]:
    """A batch of packed items. It has no attention mask: positions tell what belongs together."""
    filler = {"input_ids": pad, "labels": IGNORED, "position_ids": 0}
    longest = max(len(item["input_ids"]) for item in items)
    return {
        name: torch.tensor([item[name] + [value] * (longest - len(item[name])) for item in items])
        for name, value in filler.items()
    }
