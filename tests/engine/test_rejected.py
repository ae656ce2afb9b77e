"""A step whose loss or gradient is not finite: the run is the one without that batch, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avil_fast import Task
from avil_fast.config import DeltasConfig, OptimizerConfig
from avil_fast.engine import losses
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.settings import EngineSettings
from tests.engine.ranks.nan import POISONS, poisoned
from tests.methods.models import convolutional

OPTIMIZERS = {
    "sgd": {"name": "sgd", "lr": 0.1},
    "momentum": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "clipped": {"name": "sgd", "lr": 0.1, "clip_norm": 0.5},
    "adamw": {"lr": 0.01, "weight_decay": 0.1},
    "reset": {"lr": 0.01, "moments": "reset"},
}


def trained(poison: Callable[[Tensor, nn.Module], Tensor] | None, at: int, optimizer: dict[str, Any]) -> Any:
    """Two turns of every task, the poisoned batch before step `at` of task a's; None: without that batch."""
    case = convolutional()
    tasks = case.tasks()
    bad: list[Any] = []
    tasks[0] = Task("a", tasks[0].train, poisoned(tasks[0].loss, poison, bad), head=tasks[0].head)
    engine = LocalEngine(case.model, tasks, 1, EngineSettings(OptimizerConfig(**optimizer), DeltasConfig()))
    runs = []
    for round_ in range(2):
        engine.begin_round()
        for i, task in enumerate(tasks):
            engine.begin_task(i, seed=round_)
            batches = list(task.train)
            if i == 0 and poison is not None:
                extra = (torch.full_like(batches[0][0], 1e3), batches[0][1])
                bad.append(extra[0])
                batches.insert(at, extra)
            for batch in batches:
                engine.train_step(batch)
            runs.append(engine.end_task())
        engine.apply([1.0, 0.5, 0.5])
        engine.merge([1.0, 0.5, 0.5])
    return engine, runs


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("poison", POISONS)
def test_a_poisoned_batch_changes_nothing(poison: str, at: int, optimizer: str) -> None:
    without, calm = trained(None, at, OPTIMIZERS[optimizer])
    engine, runs = trained(POISONS[poison], at, OPTIMIZERS[optimizer])
    for (name, ours), (_, theirs) in zip(engine.weights(), without.weights(), strict=True):
        assert torch.equal(ours, theirs), name  # buffers of BatchNorm among them
    for task in range(3):
        for ours, theirs in zip(engine._optimizer.moments(task), without._optimizer.moments(task), strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours if ours[key] is not None)
    for i, (run, of_calm) in enumerate(zip(runs, calm, strict=True)):
        assert (run.loss, run.delta_norm) == (of_calm.loss, of_calm.delta_norm)
        assert run.rejected == [i % 3 == 0 and step == at for step in range(len(run.losses))]


def test_what_is_in_a_row_goes_on_over_turns_and_ends_with_a_good_step() -> None:
    kept = losses.Losses(2, torch.device("cpu"))
    bad, good = torch.tensor(True), torch.tensor(False)
    for task, rejected in ((0, bad), (1, good), (0, bad), (1, bad)):
        kept.add(task, torch.tensor(1.0), rejected)
    assert kept.in_a_row == [2, 1]
    kept.begin()
    kept.add(0, torch.tensor(1.0), bad)
    kept.add(1, torch.tensor(1.0), good)
    assert kept.in_a_row == [3, 0]
    assert kept.stacked().isnan().tolist() == [True, False]


def test_where_a_look_waits_for_the_device_it_is_taken_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SYNCHRONIZE_EVERY", 3)
    kept = losses.Losses(1, torch.device("cuda"))  # whose losses may lie anywhere
    found = []
    for _ in range(4):
        kept.add(0, torch.tensor(1.0), torch.tensor(True))
        found.append(kept.in_a_row[0])
    assert found == [0, 0, 3, 3]
    kept.synchronize()
    assert kept.in_a_row == [4]


def test_nothing_waits_for_the_device_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a tensor's value is what waits."""
    engine, _ = trained(None, 0, OPTIMIZERS["clipped"])
    monkeypatch.setattr(engine._losses, "_every", 1000)
    engine.begin_round()
    engine.begin_task(0, seed=0)
    batch = engine.tasks[0].train[0]
    read: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        original = getattr(Tensor, name)

        def counted(self: Tensor, original: Any = original, name: str = name) -> Any:
            read.append(name)
            return original(self)

        monkeypatch.setattr(Tensor, name, counted)
    engine.train_step(batch)
    assert read == []
    engine.rejected_in_a_row(wait=True)
    assert read == ["tolist"]
