"""Examples as token ids: data sets for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from avil_fast.errors import AvilError
from avil_fast.tasks.text.examples import Examples

IGNORED = -100
"""The label of a token that is not learned, as transformers has it."""


class Ragged:
    """Lists of token ids of any length, in one array."""

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        self.lengths: NDArray[np.int64] = np.array([len(ids) for ids in lists], dtype=np.int64)
        self._ends = np.concatenate([[0], np.cumsum(self.lengths)])
        self._flat = np.fromiter((token for ids in lists for token in ids), np.int32, int(self._ends[-1]))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> list[int]:
        ids: list[int] = self._flat[self._ends[index] : self._ends[index + 1]].tolist()
        return ids


class Texts(Dataset[dict[str, Any]]):
    """Texts, or pairs of texts, as token ids of at most `max_length` tokens, not padded.

    Each item is a dict of what the tokenizer makes, and `label`.

    Attributes:
        examples: those that are left of what was given.
        cut: how many of them were longer.
    """

    def __init__(self, examples: Examples, tokenizer: Any, max_length: int, too_long: str) -> None:
        pairs = None if examples.second is None else list(examples.second)
        columns = tokenizer(list(examples.first), pairs, padding=False, return_attention_mask=False, verbose=False)
        lengths = [len(ids) for ids in columns["input_ids"]]
        kept = _fitting(examples, lengths, max_length, too_long)
        if len(kept) < len(examples):
            examples = examples.take(kept)
        self.cut = sum(length > max_length for length in lengths) if too_long == "cut" else 0
        if self.cut or len(kept) < len(lengths):
            pairs = None if examples.second is None else list(examples.second)
            options = {"padding": False, "return_attention_mask": False, "truncation": True}
            columns = tokenizer(list(examples.first), pairs, max_length=max_length, **options)
        self.examples = examples
        self._columns = {name: Ragged(lists) for name, lists in columns.items()}
        assert examples.labels is not None
        self._labels = list(examples.labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {name: column[index] for name, column in self._columns.items()}
        return item | {"label": self._labels[index]}

    def length(self, index: int) -> int:
        """Tokens of an example."""
        return int(self._columns["input_ids"].lengths[index])


class Completions(Dataset[dict[str, list[int]]]):
    """Prompts with what is learned after them, as token ids of at most `max_length` tokens, not padded.

    Each item is a dict of `input_ids` and `labels`, which are IGNORED within the prompt. A longer text
    without a prompt makes several items.

    Attributes:
        weights: learned tokens of each item.
        cut: how many examples were longer.
    """

    def __init__(self, examples: Examples, tokenizer: Any, max_length: int, too_long: str) -> None:
        assert examples.second is not None
        options = {"padding": False, "return_attention_mask": False, "verbose": False}
        begin = _beginning(tokenizer)
        prompts = tokenizer(list(examples.first), add_special_tokens=False, **options)["input_ids"]
        prompts = [ids if ids[: len(begin)] == begin else [*begin, *ids] for ids in prompts]
        learned = tokenizer(list(examples.second), add_special_tokens=False, **options)["input_ids"]
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        learned = [ids if ids[-1:] == end else [*ids, *end] for ids in learned]
        lengths = [len(prompt) + len(ids) for prompt, ids in zip(prompts, learned, strict=True)]
        kept = _fitting(examples, lengths, max_length, too_long)
        self.cut = sum(length > max_length for length in lengths) if too_long == "cut" else 0
        items = []
        for index in kept:
            plain = not examples.first[index]
            for prompt, ids in _pieces(begin, prompts[index], learned[index], max_length, plain):
                if prompt or len(ids) > 1:  # something comes before what is learned
                    items.append((index, prompt, ids))
        if not items:
            raise AvilError(f"{examples.table.name}: no text has two tokens, so there is nothing to predict")
        self.examples = examples.take([index for index, _, _ in items])
        self._ids = Ragged([[*prompt, *ids] for _, prompt, ids in items])
        self._prompt = [len(prompt) for _, prompt, _ in items]
        self.weights = [len(ids) - (not prompt) for _, prompt, ids in items]

    def __len__(self) -> int:
        return len(self._prompt)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        ids, prompt = self._ids[index], self._prompt[index]
        return {"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:]}

    def length(self, index: int) -> int:
        """Tokens of an example."""
        return int(self._ids.lengths[index])


class Demonstrated(Dataset[dict[str, list[int]]]):
    """Completions after demonstrations: other examples of the task, drawn anew each time, which are not learned.

    MetaICL (Min et al., NAACL 2022, arXiv 2110.15943); the query's completion alone is learned. Demonstrations for
    which there is no room are left out.

    Args:
        queries: what is learned.
        pool: where demonstrations come from; never the query itself.
        count: demonstrations before each query.
        separator: token ids between them.
        max_length: tokens, all included.
        seed: None draws anew each time; a number draws the same for an item each time, for evaluation.
    """

    def __init__(
        self,
        queries: Completions,
        pool: Completions,
        count: int,
        separator: Sequence[int],
        max_length: int,
        end: int | None,
        seed: int | None = None,
    ) -> None:
        self.weights, self.examples, self.cut = queries.weights, queries.examples, queries.cut
        self._queries, self._pool, self._count = queries, pool, count
        self._separator, self._max_length, self._end, self._seed = list(separator), max_length, end, seed

    def __len__(self) -> int:
        return len(self._queries)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.draw(index, int(torch.randint(1 << 62, ())))

    def draw(self, index: int, seed: int) -> dict[str, list[int]]:
        """An item with the demonstrations that a seed decides, unless they are fixed."""
        query = self._queries[index]
        before: list[int] = []
        for other in self._others(index, seed if self._seed is None else self._seed + index):
            ids = self._pool[other]["input_ids"]
            shown = [*(ids[:-1] if ids[-1] == self._end else ids), *self._separator]
            if len(before) + len(shown) + len(query["input_ids"]) <= self._max_length:
                before += shown
        return {
            "input_ids": before + query["input_ids"],
            "labels": [IGNORED] * len(before) + query["labels"],
        }

    def length(self, index: int) -> int:
        """Tokens of an example, with one draw of demonstrations."""
        return len(self[index]["input_ids"])

    def _others(self, index: int, seed: int) -> list[int]:
        """Numbers of examples in the pool, without the query."""
        generator = torch.Generator().manual_seed(seed)
        own = self._pool is self._queries
        others = len(self._pool) - own
        count = min(self._count, others)
        drawn: list[int] = []
        while len(drawn) < count:  # a permutation of all would take time in proportion to the pool
            other = int(torch.randint(others, (), generator=generator))
            if other not in drawn:
                drawn.append(other)
        return [other + (own and other >= index) for other in drawn]


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
        self.examples, self.cut = completions.examples, completions.cut
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


def _beginning(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text."""
    ids: list[int] = tokenizer("", return_attention_mask=False)["input_ids"]
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []


def _pieces(
    begin: list[int], prompt: list[int], learned: list[int], max_length: int, plain: bool
) -> list[tuple[list[int], list[int]]]:
    """A text in pieces that fit; or a prompt without its beginning, and what is learned without its end."""
    if plain:
        size = max_length - len(prompt)
        return [(prompt, learned[start : start + size]) for start in range(0, len(learned), size)]
    learned = learned[: max_length - len(begin) - 1]
    room = max_length - len(learned)
    if len(prompt) > room:
        prompt = [*begin, *prompt[len(prompt) - room + len(begin) :]]
    return [(prompt, learned)]


def _fitting(examples: Examples, lengths: Sequence[int], max_length: int, too_long: str) -> list[int]:
    """Numbers of the examples to keep."""
    if too_long == "cut":
        return list(range(len(lengths)))
    kept = [index for index, length in enumerate(lengths) if length <= max_length]
    if too_long == "stop" and len(kept) < len(lengths):
        index = next(index for index, length in enumerate(lengths) if length > max_length)
        raise AvilError(
            f"{examples.where(index)}: the text has {lengths[index]} tokens, but the model reads {max_length}; "
            f"raise model.max_length, shorten the text, or set too_long: cut"
        )
    if not kept:
        raise AvilError(
            f"{examples.table.name}: every text has more than {max_length} tokens, and too_long is drop; raise "
            f"model.max_length"
        )
    return kept
