"""The rounds of a run, the same for every method: train, measure, keep the best, fine-tune."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

from avil_fast.config import TrainConfig
from avil_fast.engine.base import Engine, Evaluation
from avil_fast.errors import AvilError
from avil_fast.methods import METHODS
from avil_fast.methods.base import RoundRecord, TaskData
from avil_fast.methods.finetune import finetune


class Observer:
    """Is told how a run goes. Does nothing itself."""

    def progress(self, task: str, step: int, steps: int) -> None:
        """After every optimizer step."""

    def round(self, row: dict[str, Any]) -> None:
        """After every round, with its line of metrics."""


@dataclass
class Outcome:
    """What a run came to. The model holds the kept parameters."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best_round: int = 0
    finetune_epoch: int = 0
    """0: the fine-tune changed nothing for the better."""
    dev: Evaluation = field(default_factory=lambda: Evaluation(math.inf, None))
    test: Evaluation | None = None
    steps: dict[str, int] = field(default_factory=dict)
    """Optimizer steps by task, the fine-tune included."""
    seconds: float = 0.0


def run_rounds(engine: Engine, config: TrainConfig, observer: Observer) -> Outcome:
    """Run `config.method` for `config.rounds` rounds and fine-tune; leaves the best model in the engine."""
    data = TaskData(engine.tasks, config, engine.share)
    method = METHODS[config.method](engine, data, config)
    outcome, kept, began = Outcome(), None, time.perf_counter()
    best: Evaluation | None = None
    for round_ in range(1, config.rounds + 1):
        started = time.perf_counter()
        record = method.round(round_, observer.progress)
        dev, test = _measure(engine, data)
        if not math.isfinite(dev.loss):
            raise AvilError(
                f"target {engine.tasks[engine.target].name!r}: its dev loss is {dev.loss} after round {round_}; "
                f"lower optimizer.lr or alpha.lr, or set alpha.bounds"
            )
        for split, found in (("dev", dev), ("test", test)):
            if found is not None and not math.isfinite(found.metric or 0.0):
                raise AvilError(
                    f"target {engine.tasks[engine.target].name!r}: its metric on the {split} set is "
                    f"{found.metric} after round {round_}; return finite numbers"
                )
        if config.keep == "last" or dev.better_than(best):
            best, outcome.best_round, kept = dev, round_, engine.snapshot()
        row = _row(round_, record, dev, test, engine, time.perf_counter() - started)
        outcome.history.append(row)
        observer.round(row)
    engine.restore(kept)
    assert best is not None
    if config.finetune.epochs:
        _, outcome.finetune_epoch = finetune(
            engine, data, config.finetune.epochs, best, config.seed, observer.progress
        )
    outcome.dev, outcome.test = _measure(engine, data)
    outcome.steps = {task.name: steps for task, steps in zip(engine.tasks, data.steps_taken, strict=True)}
    outcome.seconds = time.perf_counter() - began
    return outcome


def _measure(engine: Engine, data: TaskData) -> tuple[Evaluation, Evaluation | None]:
    """The target on dev, and on test if it has a test set."""
    target = engine.target
    dev = engine.evaluate(target, data.dev(target))
    if engine.tasks[target].test is None:
        return dev, None
    return dev, engine.evaluate(target, data.test(target))


def _row(
    round_: int,
    record: RoundRecord,
    dev: Evaluation,
    test: Evaluation | None,
    engine: Engine,
    seconds: float,
) -> dict[str, Any]:
    """A line of metrics.jsonl."""

    def by_task(values: list[float]) -> dict[str, float | None]:
        names = [task.name for task in engine.tasks]
        return {name: v if math.isfinite(v) else None for name, v in zip(names, values, strict=True)}

    parts = engine.take_seconds()
    return {
        "round": round_,
        "alpha": by_task(record.alpha),
        "weight": by_task(record.weight),
        "delta_norm": by_task(record.delta_norm),
        "train_loss": by_task(record.train_loss),
        "dev_loss": dev.loss,
        "dev_metric": dev.metric,
        "test_loss": test.loss if test and math.isfinite(test.loss) else None,
        "test_metric": test.metric if test else None,
        "alpha_path": record.alpha_path,
        "cosine": record.cosine,
        "seconds": parts | {"total": seconds},
    }
