"""Prompts with what is learned after them, as token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

from torch.utils.data import Dataset

from avil_fast.errors import AvilError
from avil_fast.tasks.text.examples import Examples
from avil_fast.tasks.text.ragged import TEXTS_AT_ONCE, Ragged, fitting

IGNORED = -100
"""The label of a token that is not learned, as transformers has it."""


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
        for start in range(0, len(examples), TEXTS_AT_ONCE):
            chosen = range(start, min(start + TEXTS_AT_ONCE, len(examples)))
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
        fitting(examples, lengths, max_length, too_long)
        if not items:
            raise AvilError(
                f"{examples.table.name}: no text has two tokens, so nothing can be predicted; give it longer ones"
            )
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
