"""A dev loss that is NaN, and a batch that is poisoned on one rank alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from avil_fast import Task
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.results import over_groups
from tests.engine.ranks.cases import TARGET, Case, one_step_each, tasks, theta
from tests.engine.ranks.worker import engine_of

Loss = Callable[[nn.Module, Any], Tensor]


def _gradient_alone(loss: Tensor, model: nn.Module) -> Tensor:
    first = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    return loss + (0.0 * first.sum()).sqrt()  # 0, and its gradient is 0 · ∞


POISONS: dict[str, Callable[[Tensor, nn.Module], Tensor]] = {
    "nan": lambda loss, model: loss * float("nan"),
    "infinite": lambda loss, model: loss * float("inf"),
    "gradient alone": _gradient_alone,
    "loss alone": lambda loss, model: loss + float("nan"),
}


def poisoned(loss: Loss, poison: Callable[[Tensor, nn.Module], Tensor] | None, inputs: Sequence[Tensor]) -> Loss:
    """The loss, with poison in that of these inputs."""

    def found(model: nn.Module, batch: Any) -> Tensor:
        clean = loss(model, batch)
        bad = poison is not None and any(torch.equal(batch[0], own) for own in inputs)
        return poison(clean, model) if poison is not None and bad else clean

    return found


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
    assert all(value != value for value in (*over_groups(gradient), loss))
    engine.apply([1.0, 0.7, 0.4])
    return theta(engine)


def turns(engine: Engine, *, poison: bool) -> dict[str, Any]:
    """A turn of every task, with or without the batches that `with_nan(task, 6)` poisons on one of two ranks.

    Those have 13 examples, 6 on the first rank and 7 on the other; they stand between two others.
    """
    engine.begin_round()
    runs = []
    for i, task in enumerate(tasks()):
        engine.begin_task(i, seed=0)
        first, large, small = task.train
        for batch in (first, large, small) if poison else (first, small):
            engine.train_step(batch)
        runs.append(engine.end_task())
    engine.apply([1.0, 0.7, 0.4])
    engine.merge([1.0, 0.7, 0.4])
    return {
        "theta": theta(engine),
        "losses": [run.loss for run in runs],
        "norms": [run.delta_norm for run in runs],
        "rejected": [run.rejected for run in runs],
        "in a row": list(engine.rejected_in_a_row()),
    }


@dataclass(frozen=True)
class NanCase:
    """θ after a dev loss that is not finite; and a turn with batches that one rank has to reject, and without."""

    case: Case

    def __call__(self, ranks: Ranks) -> dict[str, Any]:
        engine = engine_of(self.case, ranks)
        found: dict[str, Any] = {"applied": after_nan(engine)}
        engine.close()
        for name, poison in (("with", True), ("without", False)):
            trained = [with_nan(task, 6 // self.case.parts) for task in tasks()]
            engine = engine_of(self.case, ranks, trained=trained)
            found[name] = turns(engine, poison=poison)
            engine.close()
        return found
