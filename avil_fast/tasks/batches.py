"""Batches of a task in a reproducible order, whatever the other tasks do."""

from __future__ import annotations

import hashlib
import itertools
import signal
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from avil_fast.errors import AvilError
from avil_fast.randomness import seeded
from avil_fast.tasks.share import Part, Parts, Share, map_tensors
from avil_fast.tasks.task import Batch, Data, Task

ALL = Share()
"""One rank that takes every batch whole."""


def derive_seed(*parts: object) -> int:
    """A seed from e.g. (seed, task name, round): independent of the order and number of tasks."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def about_data(task: Task) -> dict[str, Any]:
    """By which the data of two ranks or runs are compared: lengths, and digests of data that has one.

    In JSON's types.
    """
    data = {"train": task.train, "dev": task.dev, "test": task.test}
    sizes = {split: None if own is None else length_of(own) for split, own in data.items()}
    digests = {split: cast(Any, own).digest for split, own in data.items() if hasattr(own, "digest")}
    return {"name": task.name, **sizes} | ({"digest": digests} if digests else {})


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; mappings, tuples and lists are walked."""
    if isinstance(batch, Parts):
        return Parts(replace(part, batch=to_device(part.batch, device)) for part in batch)
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


class Batches:
    """Training batches of one task.

    Two ways to draw, both a function of (seed, task, round) and a cursor alone:

    - `sample`: a fresh random fraction of the data, each example once, the last batch as it falls
      (αVIL, step "collect", with sampling ratio ρ);
    - `cycle`: a given number of full batches from an endless stream of shuffled passes.

    What a data set draws itself, to augment an example, say, is a function of the batch's place in that order:
    the same with any number of workers, and where a run is taken up again.

    Args:
        task: the task; its train set is a map-style Dataset or a re-iterable of batches.
        batch_size: examples of a Dataset in one batch; an iterable brings its own batches.
        seed: of the run.
        workers: processes that load a Dataset.
        share: what this rank takes of every batch; of a Dataset it loads no more than that.
    """

    def __init__(self, task: Task, batch_size: int, seed: int, workers: int = 0, share: Share = ALL) -> None:
        self.name = task.name
        self._cursor = 0
        """Examples of a Dataset, batches of an iterable, that `cycle` has handed out."""
        self._data = task.train
        self._batch_size = batch_size if is_dataset(task.train) else 1
        self._seed = seed
        self._workers = workers
        self._share = share
        self._collate = task.collate
        self._endless: Iterator[Batch] | None = None
        self._walk: int | None = None
        """The cursor where the present pass over an iterable began."""
        self.length = length_of(task.train)
        """Examples of a Dataset, or batches of an iterable; None if the iterable does not tell."""
        require_data(task.train, f"task {task.name!r}: its train set")

    @property
    def batches_per_pass(self) -> int:
        """Batches in one pass over the data."""
        if self.length is None:
            raise AvilError(
                f"task {self.name!r}: its train iterable has no len(), so a sampling ratio means nothing; "
                f"set steps_per_task to a number"
            )
        return -(-self.length // self._batch_size)

    @property
    def part_of_pass(self) -> float:
        """The fraction of a pass over the data that a batch is; 1 if its length is not known."""
        return 1.0 if self.length is None else self._batch_size / self.length

    def state(self) -> list[int | None]:
        """Where the endless stream stands, for `load`."""
        return [self._cursor, self._walk]

    def load(self, state: list[int | None]) -> None:
        """Go on where another's stream stood. An iterable is walked again up to there."""
        cursor, self._walk = state
        assert cursor is not None
        self._cursor, self._endless = cursor, None

    def sample(self, ratio: float, round_: int, skip: int = 0) -> Iterator[Batch]:
        """About `ratio` of the data in random order, anew for each round; without the first `skip` batches."""
        if self.length is None or not self._indexable:
            yield from self.cycle(max(1, round(ratio * self.batches_per_pass)) - skip)
            return
        count = max(1, round(ratio * self.length))
        generator = torch.Generator().manual_seed(derive_seed(self._seed, self.name, "sample", round_))
        order = torch.randperm(self.length, generator=generator)[:count].tolist()
        chunks = list(_chunks(order, self._batch_size))
        places = [("sampled", round_, number) for number in range(len(chunks))]
        yield from self._load(chunks[skip:], places[skip:])

    def cycle(self, steps: int) -> Iterator[Batch]:
        """The next `steps` batches of the endless stream; a small dataset is passed over several times."""
        if not self._indexable:
            for _ in range(steps):
                yield self._next()
            return
        start, size = self._cursor, self._batch_size
        chunks = list(_chunks(self._stream(start, start + steps * size), size))
        for batch in self._load(chunks, [("at", start + number * size) for number in range(steps)]):
            self._cursor += size
            yield batch

    @property
    def _indexable(self) -> bool:
        return is_dataset(self._data) or isinstance(self._data, list | tuple)

    def _stream(self, start: int, stop: int) -> list[int]:
        """Indices at positions `start:stop` of the endless stream of shuffled passes."""
        assert self.length is not None
        order: list[int] = []
        for pass_ in range(start // self.length, -(-stop // self.length)):
            generator = torch.Generator().manual_seed(derive_seed(self._seed, self.name, "pass", pass_))
            order += torch.randperm(self.length, generator=generator).tolist()
        first = start - start // self.length * self.length
        return order[first : first + stop - start]

    def _load(self, chunks: list[list[int]], places: Sequence[tuple[object, ...]]) -> Iterator[Batch]:
        """The batches of these examples, each with its place among all of the run."""
        if not is_dataset(self._data):
            batches = cast(list[Batch], self._data)
            return iter([batches[index] for (index,) in chunks])
        draws = [
            _Draw(chunk, derive_seed(self._seed, self.name, *place))
            for chunk, place in zip(chunks, places, strict=True)
        ]
        return _shared(cast(Dataset[Any], self._data), draws, self._share, self._collate, self._workers)

    def _next(self) -> Batch:
        """The next batch of an iterable that cannot be indexed, started over when it ends."""
        for _ in range(2):
            if self._endless is None:
                self._walk = self._cursor if self._walk is None else self._walk
                walk = _seeded(cast(Iterable[Batch], self._data), self._seed, self.name, "walk", self._walk)
                self._endless = itertools.islice(walk, self._cursor - self._walk, None)
            for batch in self._endless:
                self._cursor += 1
                return batch
            self._endless = self._walk = None
        raise AvilError(f"task {self.name!r}: its train iterable yields no batch a second time; pass a list")


def in_order(
    data: Data, batch_size: int, collate: Any = None, workers: int = 0, share: Share = ALL
) -> Iterator[Batch]:
    """All of a dev or test set, in order, each example once."""
    if not is_dataset(data):
        return _seeded(cast(Iterable[Batch], data), "in order")
    dataset = cast(Dataset[Any], data)
    chunks = BatchSampler(SequentialSampler(cast(Sized, dataset)), batch_size, drop_last=False)
    draws = [_Draw(chunk, derive_seed("in order", number)) for number, chunk in enumerate(chunks)]
    return _shared(dataset, draws, share, collate, workers)


def _seeded(data: Iterable[Batch], *seed: object) -> Iterator[Batch]:
    """The batches, drawn with a seed of their own: ranks that train with other seeds shuffle alike."""
    iterator: Iterator[Batch] | None = None
    for number in itertools.count():
        with seeded(derive_seed(*seed, number)):
            if iterator is None:
                for generator in _generators(data):
                    generator.manual_seed(derive_seed(*seed))  # a pass must not depend on those before
                iterator = _start(data)
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch


def _generators(data: Iterable[Batch]) -> list[torch.Generator]:
    """Those that a loader draws its order from, if it has some of its own."""
    if not isinstance(data, DataLoader):
        return []
    holders = [data, data.sampler, data.batch_sampler, getattr(data.batch_sampler, "sampler", None)]
    found = (getattr(holder, "generator", None) for holder in holders)
    return [generator for generator in found if isinstance(generator, torch.Generator)]


def is_dataset(data: Data) -> bool:
    """Whether `data` is a map-style torch Dataset rather than an iterable of batches."""
    indexed = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    # Datasets of other libraries are not torch's, but have the same two methods and no batches.
    return indexed or (
        hasattr(data, "__getitems__") and hasattr(data, "__len__") and not isinstance(data, DataLoader)
    )


def length_of(data: Data) -> int | None:
    try:
        return len(cast(Sized, data))
    except TypeError:
        return None


def require_data(data: Data, what: str) -> None:
    """Refuse an empty set and an iterator that can be walked only once."""
    if isinstance(data, Iterator):
        raise AvilError(f"{what} is a one-shot {type(data).__name__}; pass a list, a Dataset or a DataLoader")
    if length_of(data) == 0:
        raise AvilError(f"{what} is empty; give it at least one example")


@dataclass(frozen=True)
class _Draw:
    """Examples of a Dataset that make a batch or a piece of one."""

    indices: list[int]
    batch: int
    """The seed of what the whole batch draws."""
    first: int = 0
    """Of these examples, its place in the batch."""
    piece: tuple[int, int] | None = None
    """Rank and number of a piece."""

    @property
    def seed(self) -> int:
        """Of what is drawn while these examples are fetched."""
        return self.batch if self.piece is None else derive_seed(self.batch, *self.piece)


class _Batched(Dataset[Batch]):
    """A Dataset whose items are the batches of another: `batched[draw]`."""

    def __init__(self, dataset: Dataset[Any], collate: Any) -> None:
        self._dataset = dataset
        self._collate = collate or default_collate

    def __getitem__(self, draw: _Draw) -> Batch:
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

    def __getitem__(self, draw: _Draw) -> Batch:
        return list(self._dataset[cast(Any, draw.indices)])


def _shared(
    dataset: Dataset[Any], draws: list[_Draw], share: Share, collate: Any, workers: int
) -> Iterator[Batch]:
    """The batches of a Dataset, as `Parts` where this rank takes less than all in one piece, or examples weigh."""
    weights: Sequence[int] | None = getattr(dataset, "weights", None)
    if share.whole and weights is None:
        return _start(_loader(dataset, draws, collate, workers))
    pieces = [
        _Draw(indices, draw.batch, piece.start, (share.rank, number))
        for draw in draws
        for number, (indices, piece) in enumerate(
            zip(share.indices(draw.indices), share.pieces(len(draw.indices)), strict=True)
        )
    ]
    loaded = _start(_loader(dataset, pieces, collate, workers))

    def weight(indices: list[int]) -> int:
        return len(indices) if weights is None else sum(weights[index] for index in indices)

    return (
        Parts(
            Part(next(loaded), piece.stop - piece.start, weight(draw.indices[piece]), weight(draw.indices))
            for piece in share.pieces(len(draw.indices))
        )
        for draw in draws
    )


def _loader(dataset: Dataset[Any], draws: list[_Draw], collate: Any, workers: int) -> DataLoader[Any]:
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


STOPPING = (signal.SIGINT, signal.SIGTERM)
UNHANDLED = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)


def _start(data: Iterable[Batch]) -> Iterator[Batch]:
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


def _chunks(order: list[int], size: int) -> Iterator[list[int]]:
    iterator = iter(order)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
