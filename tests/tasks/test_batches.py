"""Batches: which examples come when."""

import random
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from avil_fast.errors import AvilError
from avil_fast.randomness import derive_seed
from avil_fast.tasks.batch_sharding import batch_size_of, to_device
from avil_fast.tasks.batches import Batches
from avil_fast.tasks.data_kinds import is_dataset
from avil_fast.tasks.loading import in_order
from avil_fast.tasks.task import Task

COUNT, SIZE = 10, 4


class Pair(NamedTuple):
    inputs: Tensor
    label: Any


class Items(Dataset[int]):
    """A map-style Dataset that is not a TensorDataset."""

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return COUNT


class Unsized(Dataset[int]):
    """A map-style Dataset that does not tell how long it is."""

    def __getitem__(self, index: int) -> int:
        return index


class Foreign:
    """A Dataset of another library: not torch's, but with its two methods."""

    def __getitem__(self, index: int) -> int:
        return index

    def __getitems__(self, indices: list[int]) -> list[int]:
        return indices

    def __len__(self) -> int:
        return COUNT


class Stream(IterableDataset[Tensor]):
    """Batches without a length, again and again."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(BATCHES)


class Again:
    def __iter__(self) -> Iterator[Tensor]:
        return iter(BATCHES)


class Once:
    """Pretends to be re-iterable."""

    def __init__(self) -> None:
        self._left = iter(BATCHES)

    def __iter__(self) -> Iterator[Tensor]:
        return self._left


BATCHES = [torch.tensor([0, 1, 2]), torch.tensor([3]), torch.tensor([4, 5])]
DATASETS = {"tensors": TensorDataset(torch.arange(COUNT)), "items": Items(), "foreign": Foreign()}
ITERABLES: dict[str, Any] = {
    "list": BATCHES,
    "tuple": tuple(BATCHES),
    "loader": DataLoader(TensorDataset(torch.arange(6)), batch_size=2),
    "stream": Stream(),
    "stream's loader": DataLoader(Stream(), batch_size=None),
    "re-iterable": Again(),
}


def batches(train: Any = DATASETS["tensors"], name: str = "a", seed: int = 0, size: int = SIZE) -> Batches:
    return Batches(Task(name, train, lambda model, batch: batch), size, seed)


def examples(drawn: Iterator[Any]) -> list[list[int]]:
    """The examples of each batch; those of a TensorDataset are lists of one tensor."""
    return [(batch[0] if isinstance(batch, list | tuple) else batch).tolist() for batch in drawn]


def flat(drawn: Iterator[Any]) -> list[int]:
    return [example for batch in examples(drawn) for example in batch]


@pytest.mark.parametrize("data", DATASETS)
def test_cycle_covers_each_example_once_per_pass_in_full_batches(data: str) -> None:
    drawn = examples(batches(DATASETS[data]).cycle(5))
    order = [example for batch in drawn for example in batch]
    assert [len(batch) for batch in drawn] == [SIZE] * 5
    assert sorted(order[:COUNT]) == sorted(order[COUNT:]) == list(range(COUNT))
    assert order[:COUNT] != order[COUNT:]


@pytest.mark.parametrize("data", [*DATASETS, "list", "stream"])
def test_cycle_continues_where_it_stopped(data: str) -> None:
    train = (DATASETS | ITERABLES)[data]
    whole, parts = batches(train), batches(train)
    continued = [batch for steps in (2, 4, 1) for batch in examples(parts.cycle(steps))]
    assert examples(whole.cycle(7)) == continued


def test_a_small_dataset_is_passed_over_several_times_within_a_batch() -> None:
    order = flat(batches(TensorDataset(torch.arange(3))).cycle(3))
    assert all(sorted(order[i : i + 3]) == [0, 1, 2] for i in range(0, 12, 3))


@pytest.mark.parametrize("data", [*DATASETS, "list"])
def test_other_tasks_and_the_global_generator_leave_the_order_alone(data: str) -> None:
    train = (DATASETS | ITERABLES)[data]
    alone, watched, other = batches(train), batches(train), batches(train, "other")
    drawn = []
    for _ in range(3):
        drawn += examples(watched.cycle(1))
        flat(other.cycle(2))
        flat(other.sample(0.5, 1))
        torch.rand(3)
    assert drawn == examples(alone.cycle(3))


def test_batches_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    for train in DATASETS.values():
        flat(batches(train).cycle(3))
        flat(batches(train).sample(0.5, 1))
        list(in_order(train, SIZE))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("data", DATASETS)
@pytest.mark.parametrize(("ratio", "count"), [(1.0, 10), (0.5, 5), (0.25, 2), (0.01, 1)])
def test_sample_draws_the_fraction_without_repetition(data: str, ratio: float, count: int) -> None:
    drawn = flat(batches(DATASETS[data]).sample(ratio, 1))
    assert len(drawn) == len(set(drawn)) == count
    assert set(drawn) <= set(range(COUNT))


def test_sample_draws_a_fraction_of_a_list_of_batches() -> None:
    drawn = examples(batches(BATCHES).sample(0.67, 1))
    assert len(drawn) == 2
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("draw", ["cycle", "sample"])
def test_order_is_a_function_of_seed_name_and_round(draw: str) -> None:
    def order(name: str = "a", seed: int = 0, round_: int = 1) -> list[int]:
        source = batches(TensorDataset(torch.arange(100)), name, seed)
        if draw == "sample":
            return flat(source.sample(1.0, round_))
        return flat([*source.cycle(25 * round_)][-25:])  # a round is a pass

    torch.manual_seed(1)
    assert order() == order()
    assert len({tuple(o) for o in (order(), order("b"), order(seed=1), order(round_=2))}) == 4


def test_sample_is_not_moved_by_the_rounds_before() -> None:
    fresh, used = batches(), batches()
    flat(used.cycle(3))
    flat(used.sample(0.5, 1))
    assert flat(fresh.sample(0.5, 2)) == flat(used.sample(0.5, 2))


@pytest.mark.parametrize("data", ITERABLES)
def test_iterables_of_batches_are_started_over(data: str) -> None:
    order = flat(batches(ITERABLES[data]).cycle(6))
    assert sorted(order[:6]) == sorted(order[6:]) == list(range(6))


@pytest.mark.parametrize("data", ITERABLES)
def test_iterables_bring_their_own_batches(data: str) -> None:
    source = batches(ITERABLES[data])
    assert not is_dataset(ITERABLES[data])
    assert sorted(flat(in_order(ITERABLES[data], SIZE))) == list(range(6))
    if source.length is not None:
        assert source.batches_per_pass == 3


@pytest.mark.parametrize("data", DATASETS)
def test_datasets_are_read_in_order_once_and_counted_in_batches(data: str) -> None:
    assert is_dataset(DATASETS[data])
    assert batches(DATASETS[data]).batches_per_pass == 3
    assert examples(in_order(DATASETS[data], SIZE)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_without_a_length_a_ratio_is_refused() -> None:
    with pytest.raises(AvilError, match="steps_per_task"):
        list(batches(Again()).sample(0.5, 1))


def test_an_iterable_that_ends_for_good_is_named() -> None:
    with pytest.raises(AvilError, match=r"'a'.*yields no batch"):
        list(batches(Once()).cycle(4))


@pytest.mark.parametrize(
    ("data", "problem"),
    [(iter(BATCHES), "one-shot"), ([], "empty"), (Unsized(), "a Unsized without a len()")],
)
def test_what_cannot_be_trained_on_is_refused(data: Any, problem: str) -> None:
    with pytest.raises(AvilError, match=rf"'a'.*{re.escape(problem)}"):
        batches(data)


@pytest.mark.parametrize("draw", ["cycle", "sample", "in_order"])
@pytest.mark.parametrize("data", DATASETS)
def test_collate_makes_the_batch(draw: str, data: str) -> None:
    def collate(items: list[Any]) -> dict[str, int]:
        return {"examples": len(items)}

    task = Task("a", DATASETS[data], lambda model, batch: batch, collate=collate)
    source = Batches(task, SIZE, 0)
    drawn = {
        "cycle": lambda: source.cycle(1),
        "sample": lambda: source.sample(0.4, 1),
        "in_order": lambda: in_order(task.train, SIZE, collate),
    }[draw]()
    assert next(drawn) == {"examples": SIZE}


def test_worker_processes_change_nothing() -> None:
    task = Task("a", Items(), lambda model, batch: batch)
    assert examples(Batches(task, SIZE, 0, workers=1).cycle(3)) == examples(Batches(task, SIZE, 0).cycle(3))


class Drawing(Items):
    """Draws from every generator."""

    def __getitem__(self, index: int) -> Any:
        return torch.rand(()).item() + random.random() + float(np.random.rand())  # noqa: NPY002


class DrawnBatches(IterableDataset[Tensor]):
    """Batches that are drawn anew in each pass."""

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(4):
            yield torch.rand(2) + random.random() + np.random.rand()  # noqa: NPY002


def loader_with_a_generator() -> DataLoader[Any]:
    return DataLoader(
        TensorDataset(torch.arange(20)), batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(7)
    )


@pytest.mark.parametrize("kind", ["cycle", "sample", "walk", "generator"])
def test_what_data_draws_is_the_same_with_any_workers_and_from_any_batch_on(kind: str) -> None:
    """And it leaves the global generators alone."""
    kinds = {"walk": DrawnBatches, "generator": loader_with_a_generator}

    def drawn(skip: int, workers: int = 0) -> list[Any]:
        made = [Task("a", kinds.get(kind, Drawing)(), lambda model, batch: batch) for _ in range(2)]
        before, after = (Batches(task, SIZE, 0, workers) for task in made)
        torch.manual_seed(skip)
        if kind == "sample":
            return [batch.tolist() for batch in after.sample(1.0, 1, skip)]
        for _ in zip(range(skip), before.cycle(9), strict=False):
            pass
        after.load(before.state())
        return [
            torch.as_tensor(batch[0] if kind == "generator" else batch).tolist() for batch in after.cycle(9 - skip)
        ]

    whole = drawn(0)
    assert len({str(batch) for batch in whole}) == len(whole)
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for skip in (1, 2, 6):
        assert drawn(skip) == whole[skip:]
        assert drawn(skip, workers=2) == whole[skip:]
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert np.random.get_state()[1].tolist() == state[2]  # noqa: NPY002


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.zeros(3, 2), 3),
        ([torch.zeros(3), torch.zeros(5)], 3),
        (Pair(torch.zeros(2, 4), "label"), 2),
        ({"name": "x", "inner": [None, {"ids": torch.zeros(7, 1)}]}, 7),
        (torch.tensor(1.0), 1),
        ({"text": ["a", "b"]}, 1),
        ([], 1),
    ],
)
def test_batch_size_is_the_length_of_the_first_tensor(batch: Any, size: int) -> None:
    assert batch_size_of(batch) == size


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(2),
        [torch.zeros(2), 1],
        (torch.zeros(2), "text"),
        Pair(torch.zeros(2), {"deep": [torch.zeros(1)]}),
        {"ids": torch.zeros(2), "text": ["a"], "none": None},
        OrderedDict(b=torch.zeros(2), a=(torch.zeros(1),)),
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_to_device_moves_every_tensor_and_keeps_the_types(batch: Any) -> None:
    def shape(value: Any, device: str) -> Any:
        if isinstance(value, Tensor):
            assert value.device.type == device
            return tuple(value.shape)
        if isinstance(value, dict):
            return type(value), {key: shape(item, device) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value), [shape(item, device) for item in value]
        return value

    assert shape(to_device(batch, torch.device("meta")), "meta") == shape(batch, "cpu")


def test_seeds_differ_by_every_part() -> None:
    seeds = [derive_seed(*parts) for parts in [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1), (0, "a")]]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "a", 1) == seeds[0]


@pytest.mark.parametrize("data", [*DATASETS, "list"])
@pytest.mark.parametrize("ratio", [1.0, 0.67, 0.35, 0.01])
def test_a_sample_has_as_many_batches_as_are_counted_beforehand(data: str, ratio: float) -> None:
    drawn = batches(DATASETS.get(data, BATCHES))
    assert len(list(drawn.sample(ratio, 1))) == drawn.in_sample(ratio)
