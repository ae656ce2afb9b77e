"""DIW: weights by scores, and a joint step where they are equal."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from avil_fast.methods.scalar_rules import cosines
from avil_fast.methods.turn import Hooks
from tests.methods.models import CASES, NAMES, in_float64
from tests.methods.runs import first_batches, fit, gradient, made, plain, theta


@pytest.mark.parametrize("name", ["linear", "transformer"])
def test_diw_with_equal_scores_is_a_joint_step(name: str) -> None:
    case = in_float64(CASES[name]())
    method = plain(case, method="diw", steps_per_task=1, options={"lr": 1e-12}, **{"alpha.target_head": "trained"})
    record = method.round(1)
    assert record.alpha == pytest.approx([1.0] * 3, abs=1e-9)
    batches = first_batches(case)
    joint = sum(gradient(case, task, batches[task]) for task in NAMES)
    before = nn.utils.parameters_to_vector(case.model.parameters()).detach()
    torch.testing.assert_close(theta(method), before - 0.05 * joint, atol=1e-9, rtol=0)


def test_diw_follows_the_scores() -> None:
    case = CASES["linear"]()  # b is mostly noise
    result, _ = fit(case, method="diw", rounds=4, options={"lr": 5.0})
    a, t, b = result.weights[-1]
    assert min(a, t) > b
    assert sum(result.weights[-1]) == pytest.approx(3.0)


def test_the_record_of_a_merge_has_the_cosines_of_its_deltas() -> None:
    method = made(method="diw")
    record = method.round(1)
    assert record.cosine == cosines(method.engine.gram())
    assert [row[i] for i, row in enumerate(record.cosine)] == pytest.approx([1.0] * 3)


def test_a_round_keeps_the_losses_and_norms_of_its_tasks_and_tells_its_steps() -> None:
    told: list[tuple[str, int, int]] = []
    method = made(method="diw")
    method.hooks = Hooks(progress=lambda name, step, steps, loss: told.append((name, step, steps)))
    runs: list[Any] = []
    end_task = method.engine.end_task
    method.engine.end_task = lambda restore: runs.append(end_task(restore=restore)) or runs[-1]
    record = method.round(1)
    assert record.train_loss == [run.loss for run in runs]
    assert record.delta_norm == [run.delta_norm for run in runs]
    assert all(math.isfinite(loss) for loss in record.train_loss)
    assert told == [(name, step, 4) for name in ("a", "t", "b") for step in range(1, 5)]
