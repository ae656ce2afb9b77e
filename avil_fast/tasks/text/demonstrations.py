"""Completions after examples of how it is done (MetaICL)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from avil_fast.tasks.text.completions import IGNORED, Completions


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
