"""Lists of token ids in little memory, and which of them are short enough."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from avil_fast.errors import AvilError
from avil_fast.tasks.text.examples import Examples

TEXTS_AT_ONCE = 1000
"""Texts that are tokenised at once. All 200,000 of a file at once took 4.3 GB, by the thousand 0.8 GB."""


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
        """Hex digest of all lists; equal lists have equal digests."""
        return blake2b(self._flat.tobytes() + self.lengths.tobytes(), digest_size=8).hexdigest()


def fitting(examples: Examples, lengths: Sequence[int], max_length: int, too_long: str) -> list[int]:
    """Indices of the examples to keep, as `too_long` says of those with more than `max_length` tokens.

    Raises:
        AvilError: an example is too long and `too_long` is stop, or none is short enough.
    """
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
