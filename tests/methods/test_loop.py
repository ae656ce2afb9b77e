"""A run from round to round: what it plans, where it stands, what it logs, how it ends."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avil_fast.config import from_dotted
from avil_fast.engine.ranks import ALONE
from avil_fast.engine.results import TaskRun
from avil_fast.errors import Diverged
from avil_fast.methods.loop import TrainingRun
from avil_fast.methods.turn import Hooks, RoundProgress
from avil_fast.observer import Observer
from avil_fast.run import training
from avil_fast.run.storage import RunStorage
from tests.methods.models import CASES
from tests.methods.runs import TARGET, fit, made, tasks_with_test


@pytest.mark.parametrize(("epochs", "expected"), [(0, (12, 0)), (3, (12, 9))])
def test_a_run_says_how_many_steps_it_plans(epochs: int, expected: tuple[int, int]) -> None:
    planned: list[tuple[int, int]] = []
    method = made(**{"rounds": 1, "finetune.epochs": epochs})
    TrainingRun(
        method.engine, method.config, Hooks(planned=lambda *steps: planned.append(steps)), lambda row: None
    ).run()
    assert planned == [expected]


def test_a_run_that_has_not_begun_stands_at_its_start_and_keeps_its_times_when_it_is_taken_up() -> None:
    def run() -> TrainingRun:
        method = made()
        return TrainingRun(method.engine, method.config, Hooks(), lambda row: None)

    begun = run()
    assert begun.where() == {"round": 0, "phase": "start"}
    state = begun.state() | {"seconds": 100.0, "round_seconds": 10.0, "cpu_seconds": 50.0}
    taken = run()
    taken.load(state, None)
    again = taken.state()
    for name, seconds in (("seconds", 100.0), ("round_seconds", 10.0), ("cpu_seconds", 50.0)):
        assert again[name] == pytest.approx(seconds, abs=5), name


def test_a_task_without_a_finite_loss_has_none() -> None:
    progress = RoundProgress(step=3)
    progress.end_task(TaskRun(math.nan, 2.0, [math.nan]))
    progress.end_task(TaskRun(0.5, 1.0, [0.5]))
    assert (progress.loss, progress.norm, progress.step) == ([None, 0.5], [2.0, 1.0], 0)


@pytest.mark.parametrize(("every_round", "when"), [(True, "after round 1"), (False, "at the end")])
def test_a_metric_on_the_test_set_that_is_not_a_number_is_told(every_round: bool, when: str) -> None:
    case = CASES["linear"]()
    tasks = tasks_with_test(case)
    rows = len(tasks[1].test)

    def metric(model: nn.Module, batch: Any) -> Tensor:
        return torch.full((len(batch[0]),), math.nan if len(batch[0]) == rows else 0.5)

    tasks[1] = replace(tasks[1], metric=metric, dev=torch.utils.data.Subset(tasks[1].train, range(3)))
    with pytest.raises(Diverged, match=f"target 't': its metric on the test set is nan {when}; return finite"):
        fit(case, tasks, rounds=1, steps_per_task=1, test_every_round=every_round)


def test_rounds_are_logged_without_a_folder_but_not_those_of_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[int] = []

    class Logger(Observer):
        def __init__(self, project: str, config: Any) -> None:
            logged.append(0)

        def round(self, row: dict[str, Any]) -> None:
            logged.append(row["round"])

        def close(self) -> None:
            logged.append(-1)

    monkeypatch.setattr("avil_fast.run.metric_loggers.WandB", Logger)
    monkeypatch.setattr("avil_fast.run.metric_loggers._has", lambda package: True)
    case = CASES["linear"]()
    options = {"rounds": 2, "steps_per_task": 1, "log.wandb": "mine"}
    fit(case, case.tasks(), **options)
    assert logged == [0, 1, 2, -1]
    config = from_dotted({"target": "t", "output_dir": None} | options)
    storage = RunStorage().of_baseline("single", config, ALONE)
    training.train(copy.deepcopy(case.model), case.tasks(), config, storage=storage)
    assert logged == [0, 1, 2, -1]


def test_a_run_says_at_every_point_where_it_stands() -> None:
    method = made(**{"rounds": 2, "steps_per_task": 2, "alpha.steps": 3, "finetune.epochs": 2})
    places: list[dict[str, Any]] = []
    hooks = Hooks(point=lambda: places.append(run.where()))
    run = TrainingRun(method.engine, method.config, hooks, lambda row: None)
    assert run.where() == {"round": 0, "phase": "start"}
    run.run()
    turns = [
        {"round": round_, "phase": "training", "turn": turn, "task": "atb"[turn], "step": step}
        for round_ in (1, 2)
        for turn in range(3)
        for step in (1, 2)
    ]
    assert [place for place in places if place["phase"] == "training" and place["step"]] == turns
    assert [place for place in places if place["phase"] == "α"][-1] == {"round": 2, "phase": "α", "step": 3}
    epochs = {(place["epoch"], place["step"]) for place in places if place["phase"] == "fine-tune"}
    steps = method.data.finetune_steps(TARGET)
    assert {(epoch, step) for epoch in (1, 2) for step in range(1, steps + 1)} <= epochs
    assert {epoch for epoch, _ in epochs} == {1, 2}
    assert run.where() == {"round": 2, "phase": "done"}


def test_a_round_s_seconds_are_its_own_and_numbers_that_are_not_finite_are_none() -> None:
    method = made(method="diw", **{"rounds": 2, "finetune.epochs": 0})
    end_task = method.engine.end_task
    method.engine.end_task = lambda restore: replace(end_task(restore=restore), delta_norm=math.inf)
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    TrainingRun(method.engine, method.config, Hooks(), rows.append).run()
    assert 0 < sum(row["seconds"]["total"] for row in rows) <= time.perf_counter() - began
    assert rows[0]["delta_norm"] == {"a": None, "t": None, "b": None}
