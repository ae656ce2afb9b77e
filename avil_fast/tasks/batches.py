"""Batches of a task in a reproducible order, whatever the other tasks do."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch.utils.data import Dataset

from avil_fast.errors import AvilError
from avil_fast.randomness import derive_seed
from avil_fast.tasks.batch_sharding import ALL, Share, batch_size_of
from avil_fast.tasks.data_kinds import is_dataset, length_of, require_data
from avil_fast.tasks.loading import Draw, chunks, load, seeded_pass
from avil_fast.tasks.task import Batch, Task


class Batches:
    """Training batches of one task.

    Two ways to draw, both a function of (seed, task, round) and a cursor alone:

    - `sample`: a fresh random fraction of the data, each example once, the last batch as it falls
      (αVIL, step "collect", with sampling ratio ρ);
    - `cycle`: a given number of full batches from an endless stream of shuffled passes.

    What a dataset draws itself, to augment an example, say, is a function of the batch's place in that order:
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

    def examples_in(self, batch: Batch) -> int:
        """Examples in one of the full batches of `cycle`: the batch size, or what an iterable brought."""
        return self._batch_size if is_dataset(self._data) else batch_size_of(batch)

    @property
    def part_of_pass(self) -> float:
        """The fraction of a pass over the data that a batch is; 1 if its length is not known."""
        return 1.0 if self.length is None else self._batch_size / self.length

    def in_sample(self, ratio: float) -> int:
        """Number of batches that `sample` yields for this ratio."""
        if self.length is None or not self._indexable:
            return max(1, round(ratio * self.batches_per_pass))
        return -(-self._sampled(ratio) // self._batch_size)

    def sizes_in_sample(self, ratio: float) -> list[int] | None:
        """Examples in the batches that `sample` draws of a Dataset for this ratio; None for an iterable's own."""
        if not is_dataset(self._data):
            return None
        count, size = self._sampled(ratio), self._batch_size
        return [min(size, count - first) for first in range(0, count, size)]

    def _sampled(self, ratio: float) -> int:
        """Examples of a Dataset, or batches, that `sample` draws."""
        assert self.length is not None
        return max(1, round(ratio * self.length))

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
            yield from self.cycle(self.in_sample(ratio) - skip)
            return
        generator = torch.Generator().manual_seed(derive_seed(self._seed, self.name, "sample", round_))
        order = torch.randperm(self.length, generator=generator)[: self._sampled(ratio)].tolist()
        cut = list(chunks(order, self._batch_size))
        places = [("sampled", round_, number) for number in range(len(cut))]
        yield from self._load(cut[skip:], places[skip:])

    def cycle(self, steps: int) -> Iterator[Batch]:
        """The next `steps` batches of the endless stream; a small dataset is passed over several times."""
        if not self._indexable:
            for _ in range(steps):
                yield self._next()
            return
        start, size = self._cursor, self._batch_size
        cut = list(chunks(self._stream(start, start + steps * size), size))
        for batch in self._load(cut, [("at", start + number * size) for number in range(steps)]):
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

    def _load(self, cut: list[list[int]], places: Sequence[tuple[object, ...]]) -> Iterator[Batch]:
        """The batches of these examples, each with its place among all of the run."""
        if not is_dataset(self._data):
            batches = cast(list[Batch], self._data)
            return iter([batches[index] for (index,) in cut])
        draws = [
            Draw(chunk, derive_seed(self._seed, self.name, *place))
            for chunk, place in zip(cut, places, strict=True)
        ]
        return load(cast(Dataset[Any], self._data), draws, self._share, self._collate, self._workers)

    def _next(self) -> Batch:
        """The next batch of an iterable that cannot be indexed, started over when it ends."""
        for _ in range(2):
            if self._endless is None:
                self._walk = self._cursor if self._walk is None else self._walk
                walk = seeded_pass(cast(Iterable[Batch], self._data), self._seed, self.name, "walk", self._walk)
                self._endless = itertools.islice(walk, self._cursor - self._walk, None)
            for batch in self._endless:
                self._cursor += 1
                return batch
            self._endless = self._walk = None
        raise AvilError(f"task {self.name!r}: its train iterable yields no batch a second time; pass a list")
