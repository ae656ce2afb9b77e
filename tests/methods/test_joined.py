"""The target's training data and dev as one set."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import avil_fast as avil
from avil_fast.errors import AvilError
from avil_fast.tasks.batches import Batches
from avil_fast.tasks.train_and_dev import joined


def test_joined_sets_keep_what_they_have_besides_items() -> None:
    class Weighed(TensorDataset):
        weights = (1, 2)

        def draw(self, index: int, seed: int) -> Any:
            return (*self[index], seed)

    first, second = Weighed(torch.arange(2.0)), Weighed(torch.arange(5.0, 7.0))
    found: Any = joined("t", first, second)
    assert [float(item[0]) for item in (found[i] for i in range(4))] == [0.0, 1.0, 5.0, 6.0]
    assert found.weights == [1, 2, 1, 2]
    assert found.draw(3, 9) == (torch.tensor(6.0), 9)
    plain: Any = TensorDataset(torch.zeros(1))
    for parts, weights in (((first, plain), [1, 2, 1]), ((plain, first), [1, 1, 2])):
        mixed: Any = joined("t", *parts)
        assert mixed.weights == weights
        assert not hasattr(mixed, "draw")
    assert not hasattr(joined("t", plain, plain), "weights")
    with pytest.raises(AvilError, match=r"target 't'.*pass two Datasets"):
        joined("t", first, [torch.zeros(1)])


def test_joined_batches_are_walked_anew_and_drawn_by_the_run_s_seed_alone() -> None:
    def loader(first: float) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.arange(first, first + 8)), batch_size=2, shuffle=True)

    def drawn() -> list[list[float]]:
        task = avil.Task("t", joined("t", loader(0.0), loader(100.0)), lambda model, batch: batch)
        batches = Batches(task, 2, seed=5)
        assert batches.batches_per_pass == 8
        return [batch[0].tolist() for batch in batches.cycle(16)]

    torch.manual_seed(1)
    first = drawn()
    torch.manual_seed(2)
    assert drawn() == first
    for begin in (0, 8):
        values = [value for batch in first[begin : begin + 8] for value in batch]
        assert sorted(values[:8]) == [float(i) for i in range(8)]
        assert sorted(values[8:]) == [float(i) for i in range(100, 108)]
    assert first[:8] != first[8:]
    assert joined("t", [1], [2, 3]) == [1, 2, 3]


def test_batches_without_an_end_cannot_be_joined() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(int, 1)

    with pytest.raises(AvilError, match=r"target 't'.*its train iterable has no len\(\).*alpha.rounds: null"):
        joined("t", Endless(), [torch.zeros(1)])
