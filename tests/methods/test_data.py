"""The batches of a run: how many, of what, in which order, and how they are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset

import avil_fast as avil
from avil_fast.config import from_dotted
from avil_fast.methods.data import TaskData
from tests.methods.models import CASES
from tests.methods.runs import TARGET, fit, made


def test_an_order_depends_on_the_run_s_seed_and_on_what_it_is_for() -> None:
    method, other = made(), made(seed=1)
    orders = [method.shuffled([20] * 3, 1), method.shuffled([20] * 3, 2), other.shuffled([20] * 3, 1)]
    assert len({tuple(order) for order in orders}) == 3
    assert method.shuffled([20] * 3, 1) == orders[0]
    assert [sorted(order) for order in orders] == [sorted([0, 1, 2] * 20)] * 3


@pytest.mark.parametrize(("examples", "passes"), [(2, 0.2), (10, 1.0), (40, 1.0)])
def test_a_draw_of_dev_counts_as_the_part_of_a_pass_that_it_is(examples: int, passes: float) -> None:
    x, y = torch.randn(10, 6), torch.randn(10, 1)
    [task] = CASES["linear"]().tasks()[TARGET : TARGET + 1]
    task = avil.Task("t", TensorDataset(x, y), task.loss, dev=TensorDataset(x, y))
    config = from_dotted({"target": "t", "output_dir": None, "alpha.dev_examples": examples})
    data = TaskData([task], config)
    assert len(list(data.dev_draw(0))) == 1
    assert data.dev_passes == pytest.approx(passes)
    list(data.dev_draw(0))
    assert data.dev_passes == pytest.approx(2 * passes)


def test_a_turn_is_as_long_as_its_task_s_share_says() -> None:
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4  # 12 batches beside 3 and 3
    config = from_dotted(
        {"target": "t", "output_dir": None, "steps_per_task": "proportional", "sample_ratio": 0.5}
    )
    data = TaskData(case.tasks(), config)
    assert [data.steps(task) for task in range(3)] == [6, 2, 2]
    for factor, expected in ((1.0, 6), (0.5, 3), (2.0, 12)):
        steps, batches = data.training(0, 1, factor)
        assert (steps, len(list(batches))) == (expected, expected)
    steps, batches = data.training(0, 2, 1.0, skip=4)
    assert (steps, len(list(batches))) == (6, 2)


def test_examples_of_a_sample_are_counted_as_they_are_drawn_and_where_it_goes_on() -> None:
    """50 examples are 4 batches, the last of 2; a turn of another length cycles through full ones."""
    tasks = [replace(task, train=TensorDataset(torch.zeros(100))) for task in CASES["linear"]().tasks()]
    config = from_dotted(
        {
            "target": "t",
            "output_dir": None,
            "steps_per_task": "proportional",
            "sample_ratio": 0.5,
            "batch_size": 16,
        }
    )
    data, resumed = TaskData(tasks, config), TaskData(tasks, config)
    _, batches = data.training(0, 1)
    for _ in range(3):
        next(batches)
    assert data.examples_seen == [48, 0, 0]
    resumed.load(data.state())
    assert [len(batch[0]) for batch in batches] == [2]
    assert [len(batch[0]) for batch in resumed.training(0, 1, skip=3)[1]] == [2]
    for each in (data, resumed):
        assert each.examples_seen == [50, 0, 0]
        assert each.steps_taken == [4, 0, 0]
        list(each.training(0, 2, factor=2.0)[1])
        assert each.examples_seen == [50 + 8 * 16, 0, 0]


@pytest.mark.parametrize(("ratio", "steps"), [(0.07, 7), (0.28, 28), (0.55, 55), (0.071, 8), (1e-4, 1)])
def test_equal_steps_are_counted_exactly(ratio: float, steps: int) -> None:
    case = CASES["linear"]()
    tasks = [replace(task, train=task.train[:1] * 100) for task in case.tasks()]
    config = from_dotted({"target": "t", "output_dir": None, "sample_ratio": ratio})
    assert [TaskData(tasks, config).steps(task) for task in range(3)] == [steps] * 3


def test_examples_are_counted_as_an_iterable_brings_them() -> None:
    case = CASES["linear"]()
    x, y = case.train["t"][0]
    tasks = [replace(task, train=[(x[:3], y[:3])]) if task.name == "t" else task for task in case.tasks()]
    result, _ = fit(case, tasks, rounds=1, steps_per_task=4, batch_size=7, **{"finetune.epochs": 0})
    assert result.summary["examples_seen"]["t"] == 4 * 3
