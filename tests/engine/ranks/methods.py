"""Rounds of a method on many ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avil_fast.config import TrainConfig
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from avil_fast.methods import find
from avil_fast.methods.data import TaskData
from avil_fast.methods.turn import Hooks, RoundProgress
from tests.engine.ranks.cases import TARGET, Case, tasks, theta
from tests.engine.ranks.worker import engine_of


def after_rounds(engine: Engine, method: str) -> dict[str, Any]:
    """What two rounds come to, over all batches of every task, and what is merged."""
    granularity = "layer" if len(engine.groups) > 1 else "model"
    options = {"alpha": {"granularity": granularity}, "options": {"penalty": 0.07} if method == "taps" else {}}
    config = TrainConfig(method=method, steps_per_task=3, target="t", batch_size=8, **options)
    run = find(method)(engine, TaskData(engine.tasks, config, engine.share), config, Hooks())
    found: dict[str, Any] = {"alpha": [], "layers": []}
    for round_ in (1, 2):
        record = run.round(round_)
        run.so_far = RoundProgress()
        found["alpha"].append(record.alpha)
        found["layers"].append(record.alpha_layers or 0.0)
    state = run.state()
    found["state"] = [state["weight"], state.get("scores", 0.0)]
    return found | {"theta": theta(engine), "losses": record.train_loss}


@dataclass(frozen=True)
class MethodCase:
    """Two rounds of a method."""

    case: Case
    method: str

    def __call__(self, ranks: Ranks) -> dict[str, Any]:
        engine = engine_of(self.case, ranks, trained=find(self.method).trained(tasks(), TARGET))
        found = after_rounds(engine, self.method)
        engine.close()
        return found
