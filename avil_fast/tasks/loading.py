"""Batches out of data: of examples that were drawn, in order, and pass by pass, all with seeds of their own."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler, TensorDataset, default_collate

from avil_fast.randomness import derive_seed, seeded
from avil_fast.tasks.batch_sharding import ALL, Part, Parts, Share
from avil_fast.tasks.data_kinds import is_dataset
from avil_fast.tasks.task import Batch, Data


@dataclass(frozen=True)
class Draw:
    """Examples of a Dataset that make a batch or a piece of one."""

    indices: list[int]
    batch: int
    """Seed of what the whole batch draws."""
    first: int = 0
    """Place of the first of these examples in the batch."""
    piece: tuple[int, int] | None = None
    """Rank and number of a piece."""

    @property
    def seed(self) -> int:
        """Seed of what is drawn while these examples are fetched."""
        return self.batch if self.piece is None else derive_seed(self.batch, *self.piece)


class _Batched(Dataset[Batch]):
    """A Dataset whose items are the batches of another: `batched[draw]`."""

    def __init__(self, dataset: Dataset[Any], collate: Any) -> None:
        self._dataset = dataset
        self._collate = collate or default_collate

    def __getitem__(self, draw: Draw) -> Batch:
        with seeded(draw.seed):
            if hasattr(self._dataset, "draw"):
                places = enumerate(draw.indices, draw.first)
                items = [self._dataset.draw(index, derive_seed(draw.batch, place)) for place, index in places]
            elif hasattr(self._dataset, "__getitems__"):
                items = self._dataset.__getitems__(draw.indices)
            else:
                items = [self._dataset[index] for index in draw.indices]
            return self._collate(items)


class _Sliced(Dataset[Batch]):
    """The same of tensors without a collator: they are indexed with a whole batch at once, and draw nothing."""

    def __init__(self, dataset: TensorDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, draw: Draw) -> Batch:
        return list(self._dataset[cast(Any, draw.indices)])


def load(dataset: Dataset[Any], draws: list[Draw], share: Share, collate: Any, workers: int) -> Iterator[Batch]:
    """The batches of a Dataset, as `Parts` where this rank takes less than all in one piece, or examples weigh."""
    weights: Sequence[int] | None = getattr(dataset, "weights", None)
    if share.whole and weights is None:
        return start_workers(_loader(dataset, draws, collate, workers))
    pieces = [
        Draw(indices, draw.batch, piece.start, (share.rank, number))
        for draw in draws
        for number, (indices, piece) in enumerate(
            zip(share.indices(draw.indices), share.pieces(len(draw.indices)), strict=True)
        )
    ]
    loaded = start_workers(_loader(dataset, pieces, collate, workers))

    def weight(indices: list[int]) -> int:
        return len(indices) if weights is None else sum(weights[index] for index in indices)

    return (
        Parts(
            Part(next(loaded), piece.stop - piece.start, weight(draw.indices[piece]), weight(draw.indices))
            for piece in share.pieces(len(draw.indices))
        )
        for draw in draws
    )


def _loader(dataset: Dataset[Any], draws: list[Draw], collate: Any, workers: int) -> DataLoader[Any]:
    # `type`, not isinstance: a subclass may draw.
    plain = type(dataset) is TensorDataset and collate is None
    batched = _Sliced(cast(TensorDataset, dataset)) if plain else _Batched(dataset, collate)
    sampler = cast(Any, draws)
    # With a generator of its own a loader leaves the global one, and so dropout, alone.
    return DataLoader(
        batched,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator(),
        collate_fn=_as_it_is,
    )


def in_order(
    data: Data, batch_size: int, collate: Any = None, workers: int = 0, share: Share = ALL
) -> Iterator[Batch]:
    """All of a dev or test set, in order, each example once."""
    if not is_dataset(data):
        return seeded_pass(cast(Iterable[Batch], data), "in order")
    dataset = cast(Dataset[Any], data)
    cut = BatchSampler(SequentialSampler(cast(Sized, dataset)), batch_size, drop_last=False)
    draws = [Draw(chunk, derive_seed("in order", number)) for number, chunk in enumerate(cut)]
    return load(dataset, draws, share, collate, workers)


def seeded_pass(data: Iterable[Batch], *seed: object) -> Iterator[Batch]:
    """The batches, drawn with a seed of their own: ranks that train with other seeds shuffle alike."""
    iterator: Iterator[Batch] | None = None
    for number in itertools.count():
        with seeded(derive_seed(*seed, number)):
            if iterator is None:
                for generator in _generators(data):
                    generator.manual_seed(derive_seed(*seed))  # a pass must not depend on those before
                iterator = start_workers(data)
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch


def _generators(data: Iterable[Batch]) -> list[torch.Generator]:
    """Those that a loader draws its order from, if it has some of its own; of several in one, all of theirs."""
    if not isinstance(data, DataLoader):
        return [generator for part in getattr(data, "parts", ()) for generator in _generators(part)]
    holders = [data, data.sampler, data.batch_sampler, getattr(data.batch_sampler, "sampler", None)]
    found = (getattr(holder, "generator", None) for holder in holders)
    return [generator for generator in found if isinstance(generator, torch.Generator)]


STOPPING = (signal.SIGINT, signal.SIGTERM)
UNHANDLED = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)


def start_workers(data: Iterable[Batch]) -> Iterator[Batch]:
    """An iterator, whose processes do not hear the signals that stop a run: it needs them until it is saved.

    They end when the run tells them, or when it is gone.
    """
    handled = {number for number in STOPPING if signal.getsignal(number) not in UNHANDLED}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handled)  # processes begin with it
    try:
        return iter(data)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def chunks(order: list[int], size: int) -> Iterator[list[int]]:
    """The indices in lists of `size`, the last one as it falls."""
    iterator = iter(order)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
