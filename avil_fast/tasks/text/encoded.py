"""Examples as token ids: data sets for training and evaluation."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
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


CHUNK = 1000
"""Texts that are tokenised at once: what a tokenizer makes of one takes a hundred times the memory of its ids."""


class Ragged:
    """Lists of token ids of any length, in one array."""

    def __init__(self, lists: Iterable[Sequence[int]]) -> None:
        flat, lengths = array("i"), array("q")
        for ids in lists:
            flat.extend(ids)
            lengths.append(len(ids))
        self._flat: NDArray[np.int32] = np.array(flat, dtype=np.int32)
        self.lengths: NDArray[np.int64] = np.array(lengths, dtype=np.int64)
        self._ends = np.concatenate([[0], np.cumsum(self.lengths)])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> list[int]:
        ids: list[int] = self._flat[self._ends[index] : self._ends[index + 1]].tolist()
        return ids

    @property
    def digest(self) -> str:
        """Of all lists: the same for the same."""
        return blake2b(self._flat.tobytes() + self.lengths.tobytes(), digest_size=8).hexdigest()


class Texts(Dataset[dict[str, Any]]):
    """Texts, or pairs of texts, as token ids of at most `max_length` tokens, not padded.

    Each item is a dict of what the tokenizer makes, and `label`.

    Attributes:
        examples: those that are left of what was given.
        cut: how many of them were longer.
        digest: of ids and labels.
    """

    def __init__(self, examples: Examples, tokenizer: Any, max_length: int, too_long: str) -> None:
        lengths: list[int] = []
        columns: dict[str, list[Ragged]] = {}
        for start in range(0, len(examples), CHUNK):
            part = slice(start, start + CHUNK)
            texts = [list(texts[part]) for texts in (examples.first, examples.second) if texts is not None]
            made = tokenizer(*texts, padding=False, return_attention_mask=False, verbose=False)
            own = [len(ids) for ids in made["input_ids"]]
            if too_long == "cut" and max(own) > max_length:
                options = {"padding": False, "return_attention_mask": False, "truncation": True}
                made = tokenizer(*texts, max_length=max_length, **options)
            lengths += own
            for name, lists in made.items():
                columns.setdefault(name, []).append(Ragged(lists))
        kept = _fitting(examples, lengths, max_length, too_long)
        self.cut = sum(length > max_length for length in lengths) if too_long == "cut" else 0
        self.examples = examples if len(kept) == len(examples) else examples.take(kept)
        self._columns = {
            name: Ragged(chunks[index // CHUNK][index % CHUNK] for index in kept)
            for name, chunks in columns.items()
        }
        assert self.examples.labels is not None
        self._labels = list(self.examples.labels)
        digests = [column.digest for column in self._columns.values()]
        self.digest = blake2b(repr((digests, self._labels)).encode(), digest_size=8).hexdigest()

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
    without a prompt makes several items. Prompt and completion are tokenised as one text: apart, some tokenizers
    would begin the completion with a space. What follows an end of text within a completion is left out.

    Attributes:
        weights: learned tokens of each item.
        cut: how many examples were longer.
        begin: what the tokenizer puts before every text.
        digest: of ids and prompts.
    """

    def __init__(self, examples: Examples, tokenizer: Any, max_length: int, too_long: str) -> None:
        self.begin = _beginning(tokenizer)
        end = tokenizer.eos_token_id
        lengths: list[int] = []
        items: list[tuple[int, list[int], list[int]]] = []
        for start in range(0, len(examples), CHUNK):
            chosen = range(start, min(start + CHUNK, len(examples)))
            for index, (prompt, ids) in zip(chosen, _split(examples, chosen, tokenizer), strict=True):
                prompt = prompt if prompt[: len(self.begin)] == self.begin else [*self.begin, *prompt]
                if end is not None:
                    last = len(ids) - ids[::-1].index(end) if end in ids else len(ids)
                    ids = [*ids[:last], *([] if end in ids else [end])]
                lengths.append(len(prompt) + len(ids))
                if lengths[-1] > max_length and too_long != "cut":
                    continue  # dropped or refused below
                pieces = _pieces(self.begin, prompt, ids, max_length, plain=not examples.first[index])
                # Something must come before what is learned.
                items += [(index, before, piece) for before, piece in pieces if before or len(piece) > 1]
        _fitting(examples, lengths, max_length, too_long)
        if not items:
            raise AvilError(f"{examples.table.name}: no text has two tokens, so there is nothing to predict")
        self.cut = sum(length > max_length for length in lengths) if too_long == "cut" else 0
        self.examples = examples.take([index for index, _, _ in items])
        self._ids = Ragged([*prompt, *ids] for _, prompt, ids in items)
        self._prompt = [len(prompt) for _, prompt, _ in items]
        self.weights = [len(ids) - (not prompt) for _, prompt, ids in items]
        self.digest = blake2b(repr((self._ids.digest, self._prompt)).encode(), digest_size=8).hexdigest()

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
        self.digest = queries.digest + pool.digest
        self._queries, self._pool, self._count = queries, pool, count
        self._separator, self._max_length, self._end, self._seed = list(separator), max_length, end, seed

    def __len__(self) -> int:
        return len(self._queries)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.draw(index, int(torch.randint(1 << 62, ())) if self._seed is None else 0)

    def draw(self, index: int, seed: int) -> dict[str, list[int]]:
        """An item with the demonstrations that a seed decides, unless they are fixed."""
        query = self._queries[index]
        begin = (
            self._queries.begin if query["input_ids"][: len(self._queries.begin)] == self._queries.begin else []
        )
        own, before = query["input_ids"][len(begin) :], list(begin)
        for other in self._others(index, seed if self._seed is None else self._seed + index):
            ids = self._pool[other]["input_ids"]
            ids = ids[len(begin) :] if ids[: len(begin)] == begin else ids
            shown = [*(ids[:-1] if ids[-1] == self._end else ids), *self._separator]
            if len(before) + len(shown) + len(own) <= self._max_length:
                before += shown
        return {"input_ids": before + own, "labels": [IGNORED] * len(before) + query["labels"][len(begin) :]}

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


def _beginning(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text."""
    ids: list[int] = tokenizer("", return_attention_mask=False)["input_ids"]
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []


def _split(examples: Examples, chosen: Sequence[int], tokenizer: Any) -> Iterator[tuple[list[int], list[int]]]:
    """Prompt and completion of each example as ids; a token that belongs to both is learned."""
    assert examples.second is not None
    prompts = [examples.first[index] for index in chosen]
    learned = [examples.second[index] for index in chosen]
    options = {"padding": False, "return_attention_mask": False, "add_special_tokens": False, "verbose": False}
    if not tokenizer.is_fast:  # such a tokenizer cannot tell where a token stands
        apart = (tokenizer(texts, **options)["input_ids"] for texts in (prompts, learned))
        yield from zip(*apart, strict=True)
        return
    whole = [prompt + completion for prompt, completion in zip(prompts, learned, strict=True)]
    made = tokenizer(whole, return_offsets_mapping=True, **options)
    for prompt, ids, offsets in zip(prompts, made["input_ids"], made["offset_mapping"], strict=True):
        at = next((k for k, (_, stop) in enumerate(offsets) if stop > len(prompt)), len(ids))
        yield ids[:at], ids[at:]


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
