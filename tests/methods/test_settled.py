"""Once α is settled: what stays, where training goes on from, on which data, in which shares."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import avil_fast as avil
from avil_fast.config import from_dotted
from avil_fast.methods.data import TaskData
from avil_fast.methods.scalar_rules import settled, share_out, shares
from avil_fast.methods.turn import RoundProgress
from tests.methods.models import CASES, LAYERS, NAMES, in_float64
from tests.methods.runs import fit, made, plain, tasks_with_test, theta


def test_once_alpha_is_settled_the_target_trains_on_dev_too_and_the_last_round_counts() -> None:
    case = CASES["convolutional"]()
    options = {"rounds": 5, "steps_per_task": 4, "keep": "best", "alpha.lr": 60.0}
    result, _ = fit(case, **options, **{"alpha.rounds": 3})
    before, _ = fit(case, **(options | {"rounds": 3}))
    assert result.alphas[:3].tolist() == before.alphas.tolist()
    expected = before.alphas[1:].mean(0)  # of the later half of three rounds
    expected[1] = max(expected[1], 0.5)  # the target
    assert result.alphas[3:].tolist() == [pytest.approx(expected)] * 2
    assert [len(row["alpha_path"]) for row in result.history] == [11, 11, 11, 1, 1]
    assert result.summary["best_round"] == 5
    shared = dict(zip("atb", share_out(12, shares(expected.tolist(), 1, 1.0)), strict=True))
    assert len(set(shared.values())) > 1
    assert result.summary["steps"] == {name: 12 + 2 * count for name, count in shared.items()}


def test_once_alpha_is_settled_a_plain_loop_over_all_tasks_begins_where_the_run_began() -> None:
    """By α and w as they happen to be, in fp64."""
    case = in_float64(CASES["convolutional"]())
    options = {"rounds": 3, "steps_per_task": 5, "weights.rule": "additive", "weights.lr": 0.3} | {
        "alpha.rounds": 2,
        "alpha.lr": 6.0,
        "optimizer.momentum": 0.9,
    }
    method = plain(case, **options)
    model = copy.deepcopy(method.engine.model).train()
    both = replace(method.engine.tasks[1], train=[*case.train["t"], *case.dev])
    method.data = TaskData(method.engine.tasks, method.config, finetune=both)
    for round_ in (1, 2):
        method.round(round_)
        method.so_far = RoundProgress()
    alphas = [alpha for (alpha,) in method.alphas]
    alpha = settled(alphas, 1, method.config.alpha)
    steps = share_out(15, [s * w for s, w in zip(shares(alpha, 1, 1.0), method.weight, strict=True)])
    assert len(set(steps)) == 3, (alpha, steps)
    assert min(steps) > 0
    batches = TaskData(method.engine.tasks, method.config, finetune=both)
    batches.load(method.data.state())
    record = method.round(3)
    assert record.alpha == alpha
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    order = method.shuffled(steps, 3)
    losses = []
    for task, batch in zip(order, batches.mixed(order, with_dev=1), strict=True):
        optimizer.zero_grad()
        loss = case.losses[NAMES[task]](model, batch)
        losses.append((task, loss.item()))
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(theta(method), nn.utils.parameters_to_vector(model.parameters()).detach())
    for task in range(3):
        own = [loss for of, loss in losses if of == task]
        assert record.train_loss[task] == pytest.approx(sum(own) / len(own))


def test_a_task_whose_alpha_is_not_above_0_has_no_step_once_it_is_settled() -> None:
    case = CASES["linear"]()
    options = {"rounds": 3, "steps_per_task": 4, "alpha.rounds": 1, "alpha.steps": 1, "alpha.bounds": None}
    for lr in (0.3, 1.0, 3.0, 10.0, 30.0):
        result, _ = fit(case, **options, **{"alpha.lr": lr})
        if min(result.alphas[1]) < 0:
            break
    task = NAMES[int(result.alphas[1].argmin())]
    assert result.summary["steps"][task] == 4
    assert sum(result.summary["steps"].values()) == 36
    assert result.history[-1]["train_loss"][task] is None


def test_deltas_are_merged_with_the_settled_alpha_or_there_are_none() -> None:
    case = CASES["linear"]()
    options = {"rounds": 4, "steps_per_task": 4, "alpha.rounds": 2, "optimizer.lr": 0.02}
    result, _ = fit(case, **options, **{"alpha.settled": "merge"})
    assert result.summary["steps"] == {"a": 16, "t": 16, "b": 16}
    assert all(row["cosine"] and min(row["delta_norm"].values()) > 0 for row in result.history)
    together, _ = fit(case, **options)
    assert together.alphas.tolist() == result.alphas.tolist()
    assert [bool(row["cosine"]) for row in together.history] == [True, True, False, False]


@pytest.mark.parametrize("after", ["restart", "merge"])
def test_once_alpha_is_settled_each_layer_has_its_own_or_a_task_its_mean(after: str) -> None:
    case = CASES["convolutional"]()
    options = {"rounds": 4, "steps_per_task": 4, "alpha.rounds": 2, "alpha.lr": 2.0, "alpha.granularity": "layer"}
    result, _ = fit(case, **options, **{"alpha.settled": after})
    tables = [row.get("alpha_layers") for row in result.history]
    assert [bool(table) for table in tables] == [True, True, after == "merge", after == "merge"]
    first, second, *later = [np.array([list(own.values()) for own in table.values()]) for table in tables if table]
    assert list(tables[0]) == LAYERS["convolutional"]
    assert first.shape == (3, 3)
    assert np.ptp(second, axis=0).min() > 0
    expected = second.copy()
    expected[:, 1] = np.maximum(expected[:, 1], 0.5)
    assert all(table.tolist() == expected.tolist() for table in later)
    elements = np.array([40, 8, 148]) / 196
    assert result.alphas[0].tolist() == pytest.approx((elements @ first).tolist())
    assert result.alphas[2].tolist() == pytest.approx((elements @ expected).tolist())
    assert set(result.summary["steps"].values()) == {16}
    assert "alpha_layers" not in fit(case, rounds=1, steps_per_task=1)[0].history[0]


def test_rounds_after_alpha_is_settled_draw_from_train_and_dev() -> None:
    """One task with α held at 1 is plain training: 12 batches of train, then 8 of both."""
    case = in_float64(CASES["linear"]())
    alone = [task for task in case.tasks() if task.name == "t"]
    options = {"rounds": 5, "steps_per_task": 4, "alpha.steps": 0, "alpha.init": "one", "seed": 4}
    _, found = fit(case, alone, **options, **{"alpha.rounds": 3})
    model = copy.deepcopy(case.model)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    config = from_dotted({"target": "t", "output_dir": None, "seed": 4})
    both = avil.Task("t", [*case.train["t"], *case.dev], case.losses["t"])
    for batch in (*TaskData(alone, config).cycle(0, 12), *TaskData([both], config).cycle(0, 8)):
        optimizer.zero_grad()
        case.losses["t"](model, batch).backward()
        optimizer.step()
    torch.testing.assert_close(found, nn.utils.parameters_to_vector(model.parameters()).detach())


def test_avil_has_not_restarted_before_it_has() -> None:
    assert made().state()["restarted"] is False


def test_a_run_that_was_to_be_too_short_to_begin_anew_goes_on_from_where_it_is(tmp_path: Path) -> None:
    """Its start was not kept, and its report does not say that it was gone back to."""
    case = CASES["linear"]()
    tasks = tasks_with_test(case)
    options = {"steps_per_task": 1, "finetune.epochs": 0, "checkpoints.minutes": 0, "output_dir": tmp_path / "run"}
    short, _ = fit(case, tasks, rounds=4, **options)
    assert not any("restarted" in row for row in short.history)
    longer, _ = fit(case, tasks, rounds=8, resume="auto", **options)
    assert [row.get("restarted") for row in longer.history] == [None] * 4 + [False] * 4
    whole, _ = fit(case, tasks, rounds=8, **options | {"output_dir": None})
    assert [row.get("restarted") for row in whole.history] == [None] + [True] * 7
