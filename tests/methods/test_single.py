"""The target alone, on its training data or on dev, too."""

from __future__ import annotations

import copy

import pytest
import torch

import avil_fast as avil
from avil_fast.config import from_dotted
from avil_fast.engine.factory import make_engine
from avil_fast.engine.ranks import ALONE
from avil_fast.methods import find
from avil_fast.methods.data import TaskData
from avil_fast.methods.turn import Hooks
from tests.methods.models import CASES
from tests.methods.runs import TARGET, fit, made


@pytest.mark.parametrize("method", ["single", "single_own", "single_all"])
def test_the_target_alone_has_all_the_weight(method: str) -> None:
    case = CASES["linear"]()
    (row,) = avil.fit(case.model, case.tasks(), "t", rounds=1, method=method).history
    assert row["alpha"] == row["weight"] == {"a": 0.0, "t": 1.0, "b": 0.0}


@pytest.mark.parametrize("method", ["single", "single_own"])
def test_of_a_target_alone_only_its_own_column_says_something(method: str) -> None:
    record = made(method=method).round(1)
    assert record.alpha == record.weight == [0.0, 1.0, 0.0]
    assert [norm > 0 for norm in record.delta_norm] == [False, True, False]
    assert [loss is None for loss in record.train_loss] == [True, False, True]


def test_methods_on_the_target_alone_take_the_steps_of_all_or_its_own() -> None:
    sizes = {"steps_per_task": "proportional"}
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4
    for name, expected in (("single", 18), ("single_own", 3)):
        config = from_dotted({"target": "t", "output_dir": None, "method": name} | sizes)
        tasks = case.tasks()
        engine = make_engine(copy.deepcopy(case.model), tasks, TARGET, config, ALONE, "model")
        assert find(name)(engine, TaskData(tasks, config), config, Hooks()).steps() == expected


@pytest.mark.parametrize("method", ["single", "multitask"])
def test_a_control_on_all_data_is_the_method_on_both_sets(method: str) -> None:
    case = CASES["linear"]()
    both = [
        avil.Task("t", [*case.train["t"], *case.dev], case.losses["t"], dev=case.dev) if task.name == "t" else task
        for task in case.tasks()
    ]
    options = {"steps_per_task": 4, "rounds": 2}
    result, found = fit(case, method=f"{method}_all", **options)
    _, expected = fit(case, both, method=method, **options)
    assert torch.equal(found, expected)
    assert [row["dev_held_out"] for row in result.history] == [False, False]
    assert result.summary["dev_held_out"] is False


def test_single_all_keeps_the_last_epoch_of_the_finetune() -> None:
    case = CASES["linear"]()
    result, _ = fit(
        case, method="single_all", rounds=2, keep="best", **{"finetune.epochs": 3, "optimizer.lr": 0.4}
    )
    assert result.summary["best_round"] == 2
    assert result.summary["finetune_epoch"] == 3
