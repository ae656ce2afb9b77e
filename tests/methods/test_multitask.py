"""Joint training: a plain loop over shuffled batches of all tasks, in the shares that are asked for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from avil_fast.config import from_dotted
from avil_fast.engine.factory import make_engine
from avil_fast.engine.ranks import ALONE
from avil_fast.methods.data import TaskData
from avil_fast.methods.multitask import Multitask
from avil_fast.methods.turn import Hooks, RoundProgress
from avil_fast.randomness import derive_seed
from tests.methods.models import CASES, NAMES, in_float64
from tests.methods.runs import TARGET, fit, made, plain


def test_multitask_is_a_plain_loop_over_shuffled_batches() -> None:
    """With Adam, whose moments are one set for shared parameters and each head's own, as in any training loop."""
    case = in_float64(CASES["convolutional"]())
    options = {"method": "multitask", "optimizer.name": "adamw", "optimizer.lr": 0.01, "rounds": 2}
    _, found = fit(case, **options)

    method = plain(case, **options)
    model = copy.deepcopy(case.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for round_ in (1, 2):
        order = method.shuffled([3, 3, 3], round_)
        assert sorted(order) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        for task, batch in zip(order, method.data.mixed(order), strict=True):
            optimizer.zero_grad()  # to None: the heads of other tasks are not stepped
            case.losses[NAMES[task]](model, batch).backward()
            optimizer.step()
    torch.testing.assert_close(found, nn.utils.parameters_to_vector(model.parameters()).detach())


def test_proportional_sampling_shares_the_same_steps_by_size() -> None:
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4  # 12 batches beside 3 and 3
    options = {"method": "multitask", "steps_per_task": 6, "rounds": 2}
    result, _ = fit(case, **options, options={"sampling": "proportional"})
    assert result.summary["steps"] == {"a": 24, "t": 6, "b": 6}
    assert result.weights[1].tolist() == pytest.approx([2.0, 0.5, 0.5])


def test_uniform_sampling_takes_as_many_steps_of_every_task_whatever_their_sizes() -> None:
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4
    for sampling, expected in (("uniform", [6, 6, 6]), ("proportional", [12, 3, 3])):
        options = {"target": "t", "output_dir": None, "method": "multitask", "steps_per_task": 6}
        config = from_dotted(options | {"options": {"sampling": sampling}})
        engine = make_engine(copy.deepcopy(case.model), case.tasks(), TARGET, config, ALONE, "model")
        assert Multitask(engine, TaskData(case.tasks(), config), config, Hooks()).steps() == expected


def test_multitask_and_then_the_target_alone() -> None:
    case = CASES["linear"]()
    result, _ = fit(case, method="multitask_ft", steps_per_task=4, rounds=6, options={"target_rounds": 0.5})
    assert result.summary["steps"] == {"a": 12, "t": 12 + 36, "b": 12}
    joint, _ = fit(case, method="multitask", steps_per_task=4, rounds=3)
    losses = [row["dev_loss"] for row in result.history]
    assert losses[:3] == [row["dev_loss"] for row in joint.history]


def test_a_joint_turn_moves_theta_by_one_delta_which_is_the_target_s() -> None:
    method = made(method="multitask")
    before = torch.cat([p.detach().flatten().clone() for p in method.engine.model.parameters()])
    method.begin()
    joint = method.train_jointly(1, [4, 4, 4])
    after = torch.cat([p.detach().flatten() for p in method.engine.model.parameters()])
    moved = float((after - before).norm())
    assert moved > 0
    assert joint.delta_norm == pytest.approx([0.0, moved, 0.0])
    assert len(joint.train_loss) == 3
    assert None not in joint.train_loss


def test_tasks_that_train_together_have_an_alpha_of_one_each() -> None:
    record = made(method="multitask").round(1)
    assert record.alpha == [1.0] * 3
    assert [norm > 0 for norm in record.delta_norm] == [False, True, False]


def test_uniform_sampling_leaves_every_task_the_steps_of_its_turn() -> None:
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4
    method: Any = made(case, method="multitask", steps_per_task="proportional")
    assert method.steps() == [12, 3, 3]


def test_the_target_alone_has_other_dropout_in_every_round() -> None:
    method = made(method="multitask_ft", rounds=4, options={"target_rounds": 0.5})
    seeds: list[int] = []
    begin_task = method.engine.begin_task
    method.engine.begin_task = lambda task, seed: seeds.append(seed) or begin_task(task, seed)
    for round_ in range(1, 5):
        method.round(round_)
        method.so_far = RoundProgress()
    assert seeds == [derive_seed(0, "t", "train", round_) for round_ in range(1, 5)]
