"""A dev loss that is NaN, and a training example that is NaN on one rank alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from avil_fast import AvilError, Task
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from tests.engine.ranks.cases import TARGET, Case, one_step_each, tasks, theta
from tests.engine.ranks.worker import engine_of


def with_nan(task: Task, last: int) -> Task:
    """The task with NaN in the loss of batches that hold more than `last` examples on a rank."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return task.loss(model, batch) * (float("nan") if len(batch[0]) > last else 1.0)

    return replace(task, loss=loss)


def after_nan(engine: Engine) -> dict[str, Tensor]:
    """θ + Σ α_i δ_i that is applied after an α gradient that is not finite."""
    one_step_each(engine)
    engine.tasks[TARGET] = with_nan(engine.tasks[TARGET], 0)
    gradient, loss = engine.target_gradient(engine.tasks[TARGET].dev)
    assert all(value != value for value in (*gradient, loss))
    engine.apply([1.0, 0.7, 0.4])
    return theta(engine)


@dataclass(frozen=True)
class NanCase:
    """θ after a dev loss that is not finite; what every rank says when one meets NaN in training, and θ then."""

    case: Case

    def __call__(self, ranks: Ranks) -> dict[str, Any]:
        engine = engine_of(self.case, ranks)
        found: dict[str, Any] = {"applied": after_nan(engine)}
        engine.close()
        engine = engine_of(self.case, ranks, trained=[with_nan(task, 6) for task in tasks()])
        engine.begin_round()
        engine.begin_task(0, seed=0)
        try:
            engine.train_step(tasks()[0].train[1])  # 13 examples: 6 on the first of two ranks, 7 on the other
            engine.end_task()
        except AvilError as error:
            found["error"] = str(error)
        engine.close()
        return found
