"""Which part of every batch a rank takes, so that a run on many ranks sees the batches of a run on one.

A batch of m examples is cut into ranks · parts pieces, as even as they come. A rank that gets none takes the
first example with a count of 0: it has to work in step with the others.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from avil_fast.errors import AvilError
from avil_fast.tasks.task import Batch


@dataclass(frozen=True)
class Part:
    """What a rank takes of a batch in one forward and backward pass."""

    batch: Batch
    examples: int
    """Number of examples that count; 0 for a stand-in."""
    weight: int
    """What these examples weigh in a mean over the batch: their number, or the sum of their weights."""
    total: int
    """The whole batch's weight, on all ranks."""


class Parts(list[Part]):
    """The parts of one batch that a rank takes, one after the other."""


@dataclass(frozen=True)
class Share:
    """A rank's share of every batch.

    Args:
        rank, ranks: whose share.
        parts: pieces that it is taken in, to save memory (gradient accumulation).
    """

    rank: int = 0
    ranks: int = 1
    parts: int = 1

    @property
    def whole(self) -> bool:
        """Whether one rank takes every batch in one piece."""
        return self.ranks * self.parts == 1

    def in_one_part(self) -> Share:
        """The share without gradient accumulation, for passes that keep no activations."""
        return replace(self, parts=1)

    def pieces(self, count: int) -> list[slice]:
        """This rank's pieces of `count` examples, some of which may be empty."""
        total = self.ranks * self.parts
        first = self.rank * self.parts
        return [slice(k * count // total, (k + 1) * count // total) for k in range(first, first + self.parts)]

    def indices(self, order: Sequence[int]) -> list[list[int]]:
        """This rank's pieces of a batch given by its examples' indices; never empty."""
        return [list(order[piece]) or [order[0]] for piece in self.pieces(len(order))]

    def cut(self, batch: Batch) -> Parts:
        """This rank's parts of a batch that was made whole; `Parts` pass as they are."""
        if isinstance(batch, Parts):
            return batch
        total = batch_size_of(batch)
        if self.whole:
            return Parts([Part(batch, total, total, total)])
        _require_rows(batch, total)
        return Parts(
            Part(
                _narrow(batch, piece if piece.stop > piece.start else slice(0, 1), total),
                piece.stop - piece.start,
                piece.stop - piece.start,
                total,
            )
            for piece in self.pieces(total)
        )


ALL = Share()
"""One rank that takes every batch whole."""


def batch_size_of(batch: Batch) -> int:
    """Examples in a batch: the length of the first tensor found in it; 1 if there is none."""
    tensor = _first_tensor(batch)
    if tensor is None:
        return 1
    return tensor.shape[0] if tensor.dim() else 1


def _require_rows(batch: Batch, total: int) -> None:
    """Refuse a batch of which it is unclear where an example ends."""

    def check(tensor: Tensor) -> Tensor:
        if tensor.dim() and tensor.shape[0] != total:
            raise AvilError(
                f"a batch holds tensors of {total} and of {tensor.shape[0]} rows, so it cannot be divided among "
                f"ranks or into parts; give every tensor a row per example"
            )
        return tensor

    map_tensors(batch, check)


def _first_tensor(batch: Batch) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch
    inner = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    return next((tensor for value in inner if (tensor := _first_tensor(value)) is not None), None)


def _narrow(batch: Batch, piece: slice, total: int) -> Batch:
    """The examples of a piece: every tensor that has one row per example is cut, all else stays."""
    return map_tensors(batch, lambda t: t[piece] if t.dim() and t.shape[0] == total else t)


def map_tensors(batch: Batch, change: Any) -> Batch:
    """The batch with `change` applied to its tensors; mappings, tuples and lists keep their kind."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        changed = {key: map_tensors(value, change) for key, value in batch.items()}
        if type(batch) is dict:
            return changed
        same = copy.copy(batch)  # of the same kind: a defaultdict, a tokenizer's BatchEncoding
        same.update(changed)  # type: ignore[attr-defined]  # every mapping that a collator makes can be set
        return same
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(item, change) for item in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(map_tensors(item, change) for item in batch)
    return batch


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; mappings, tuples and lists are walked."""
    if isinstance(batch, Parts):
        return Parts(replace(part, batch=to_device(part.batch, device)) for part in batch)
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))
