"""A run leaves what is its caller's as it was, however it ends."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.methods.models import CASES
from tests.methods.runs import fit


@pytest.mark.parametrize("fails", [False, True])
def test_the_caller_s_random_numbers_go_on_as_if_there_had_been_no_run(fails: bool) -> None:
    case = CASES["convolutional"]()
    calls = iter(range(100))

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if fails and next(calls) == 2:
            raise ZeroDivisionError
        return case.losses["a"](model, batch)

    def drawn() -> tuple[float, float, float]:
        return float(torch.rand(())), random.random(), np.random.random()  # noqa: NPY002

    tasks = [replace(task, loss=loss) if task.name == "a" else task for task in case.tasks()]
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(3)
    expected = drawn()
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(3)
    if fails:  # in the middle of a task, which has numbers of its own
        with pytest.raises(ZeroDivisionError):
            fit(case, tasks, rounds=1, steps_per_task=4)
    else:
        fit(case, tasks, rounds=1, steps_per_task=4)
    assert drawn() == expected
