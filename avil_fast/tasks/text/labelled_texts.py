"""Texts and pairs of texts with labels, as token ids."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from torch.utils.data import Dataset

from avil_fast.tasks.text.examples import Examples
from avil_fast.tasks.text.ragged import TEXTS_AT_ONCE, Ragged, fitting


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
        for start in range(0, len(examples), TEXTS_AT_ONCE):
            part = slice(start, start + TEXTS_AT_ONCE)
            texts = [list(texts[part]) for texts in (examples.first, examples.second) if texts is not None]
            made = tokenizer(*texts, padding=False, return_attention_mask=False, verbose=False)
            own = [len(ids) for ids in made["input_ids"]]
            if too_long == "cut" and max(own) > max_length:
                options = {"padding": False, "return_attention_mask": False, "truncation": True}
                made = tokenizer(*texts, max_length=max_length, **options)
            lengths += own
            for name, lists in made.items():
                columns.setdefault(name, []).append(Ragged(lists))
        kept = fitting(examples, lengths, max_length, too_long)
        self.cut = sum(length > max_length for length in lengths) if too_long == "cut" else 0
        self.examples = examples if len(kept) == len(examples) else examples.take(kept)
        self._columns = {
            name: Ragged(chunks[index // TEXTS_AT_ONCE][index % TEXTS_AT_ONCE] for index in kept)
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
