"""Methods on small models, made and run."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import avil_fast as avil
from avil_fast.config import from_dotted
from avil_fast.engine.factory import make_engine
from avil_fast.engine.ranks import ALONE
from avil_fast.methods import find
from avil_fast.methods.base import Method
from avil_fast.methods.data import TaskData
from avil_fast.methods.turn import Hooks
from tests.methods.models import CASES, NAMES, Case

TARGET = 1
PLAIN = {"finetune.epochs": 0, "keep": "last", "optimizer.name": "sgd", "optimizer.lr": 0.05}


def made(case: Case | str = "linear", **options: Any) -> Method:
    """A method on an engine, before its first round."""
    of = CASES[case]() if isinstance(case, str) else case
    config = from_dotted({"target": "t", "output_dir": None, "steps_per_task": 4} | options)
    kind = find(config.method)
    tasks = kind.trained(of.tasks(), TARGET)
    engine = make_engine(
        copy.deepcopy(of.model), tasks, TARGET, config, ALONE, kind.granularity(config), kind.keeps_deltas
    )
    return kind(engine, TaskData(tasks, config), config, Hooks())


def plain(case: Case | str, **options: Any) -> Method:
    """As `made`, with SGD, as many steps as a pass has, and no fine-tune."""
    return made(case, **(PLAIN | {"steps_per_task": "equal"} | options))


def fit(case: Case, tasks: list[avil.Task] | None = None, **options: Any) -> tuple[avil.Result, Tensor]:
    """A run with SGD and no fine-tune, and its parameters, flat."""
    model = copy.deepcopy(case.model)
    result = avil.fit(model, tasks or case.tasks(), "t", **(PLAIN | options))
    return result, nn.utils.parameters_to_vector(model.parameters()).detach()


def theta(method: Method) -> Tensor:
    return nn.utils.parameters_to_vector(method.engine.model.parameters()).detach().clone()


def gradient(case: Case, name: str, batch: Any) -> Tensor:
    model = copy.deepcopy(case.model)
    case.losses[name](model, batch).backward()
    return torch.cat([p.new_zeros(p.numel()) if p.grad is None else p.grad.ravel() for p in model.parameters()])


def first_batches(case: Case, seed: int = 0) -> dict[str, Any]:
    """What the tasks' streams begin with."""
    data = TaskData(case.tasks(), from_dotted({"target": "t", "output_dir": None, "seed": seed}))
    return {name: next(data.cycle(i, 1)) for i, name in enumerate(NAMES)}


def tasks_with_test(case: Case, as_datasets: bool = True) -> list[avil.Task]:
    """Those of a case, with a test set of the target; as Datasets, or as the batches that they are."""

    def dataset(batches: Any) -> Any:
        return TensorDataset(*map(torch.cat, zip(*batches, strict=True))) if as_datasets else batches

    return [
        replace(task, train=dataset(task.train))
        if task.name != "t"
        else replace(task, train=dataset(task.train), dev=dataset(task.dev), test=dataset(case.dev))
        for task in case.tasks()
    ]
