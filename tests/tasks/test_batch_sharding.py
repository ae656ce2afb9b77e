"""Ranks' shares of a batch: all of it, once, in step."""

from collections import defaultdict, namedtuple
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avil_fast import AvilError
from avil_fast.tasks.batch_sharding import Parts, Share, batch_size_of

Pair = namedtuple("Pair", "inputs labels")


def shares(ranks: int, parts: int) -> list[Share]:
    return [Share(rank, ranks, parts) for rank in range(ranks)]


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 40))
def test_every_example_is_taken_once_and_shares_are_even(ranks: int, parts: int, count: int) -> None:
    batch = torch.arange(count)
    cut = [share.cut(batch) for share in shares(ranks, parts)]
    taken = [part.batch[: part.examples] for own in cut for part in own]
    assert torch.equal(torch.cat(taken), batch)
    assert {len(own) for own in cut} == {parts}  # as many passes on every rank
    sizes = [part.examples for own in cut for part in own]
    assert max(sizes) - min(sizes) <= 1
    assert all(part.total == count and len(part.batch) >= 1 for own in cut for part in own)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 30))
def test_indices_are_those_of_the_examples_that_cut_takes(ranks: int, parts: int, count: int) -> None:
    order = list(range(100, 100 + count))
    for share in shares(ranks, parts):
        assert share.indices(order) == [part.batch.tolist() for part in share.cut(torch.tensor(order))]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x, y: (x, y),
        lambda x, y: [x, y],
        lambda x, y: {"x": x, "y": y},
        lambda x, y: defaultdict(list, x=x, y=y),
        lambda x, y: Pair(x, y),
        lambda x, y: {"x": x, "more": (y, ["a name", 3])},
    ],
)
def test_batches_of_any_kind_are_cut_and_keep_their_kind(wrap: Any) -> None:
    batch = wrap(torch.arange(6.0).view(3, 2), torch.arange(3))
    first, second = (share.cut(batch)[0].batch for share in shares(2, 1))
    assert type(first) is type(second) is type(batch)
    assert (batch_size_of(first), batch_size_of(second)) == (1, 2)


def test_what_has_no_row_for_each_example_stays() -> None:
    scale = torch.tensor(2.0)
    part = Share(1, 2).cut((torch.zeros(4, 3), scale, "name"))[0].batch
    assert part[0].shape == (2, 3)
    assert part[1] is scale
    assert part[2] == "name"


def test_a_batch_whose_examples_cannot_be_told_apart_is_refused() -> None:
    images = [torch.zeros(3, 8, 8)] * 4
    batch = (images, torch.zeros(4))
    with pytest.raises(AvilError, match="tensors of 3 and of 4 rows"):
        Share(0, 2).cut(batch)
    assert Share().cut(batch)[0].batch is batch


def test_parts_pass_as_they_are_and_know_their_whole() -> None:
    parts = Share(0, 2).cut(torch.zeros(5))
    assert Share(0, 2).cut(parts) is parts
    assert parts[0].total == 5


def test_one_rank_takes_the_batch_itself() -> None:
    batch = {"x": torch.zeros(4)}
    (part,) = Share().cut(batch)
    assert isinstance(Share().cut(batch), Parts)
    assert part.batch is batch
    assert (part.examples, part.total) == (4, 4)
