"""The rounds of a run, the same for every method: train, measure, keep the best, fine-tune."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from avil_fast.config import TrainConfig
from avil_fast.engine.base import Engine
from avil_fast.engine.results import Evaluation
from avil_fast.engine.state import Snapshot
from avil_fast.methods import find
from avil_fast.methods.best import Best
from avil_fast.methods.data import TaskData
from avil_fast.methods.finetune import Finetune, finetune, finetune_data, trains_on_dev
from avil_fast.methods.round_metrics import line_of, measure_target, require_finite
from avil_fast.methods.turn import Hooks, RoundProgress


@dataclass
class Outcome:
    """What a run came to. The model holds the kept parameters."""

    history: list[dict[str, Any]]
    best_round: int
    finetune_epoch: int
    """The epoch of the fine-tune that was kept; 0: it changed nothing for the better."""
    dev: Evaluation
    test: Evaluation | None
    steps: dict[str, int]
    """Optimizer steps by task, the fine-tune included."""
    examples_seen: dict[str, int]
    """Training examples seen, by task."""
    rejected_steps: dict[str, int]
    """Steps that were rejected, because a loss or a gradient was not finite, by task."""
    dev_passes: float
    """Passes over the target's dev set."""
    dev_held_out: bool
    """Whether the target's dev set was never trained on."""
    seconds: float
    """Wall-clock time, that before a resume included."""
    cpu_seconds: float
    """CPU time of this process, all threads together."""


class TrainingRun:
    """A run from wherever it stands to its end.

    Args:
        engine: trains.
        config: how.
        hooks: told of steps, and called at every point where `state` can be taken.
        on_round: called with a round's line of metrics.
        on_best: called with number and α of a round whose model is the best so far, while its deltas are there.
    """

    def __init__(
        self,
        engine: Engine,
        config: TrainConfig,
        hooks: Hooks,
        on_round: Callable[[dict[str, Any]], None],
        on_best: Callable[[int, Sequence[float]], None] = lambda round_, alpha: None,
    ) -> None:
        self.best = Best()
        self.history: list[dict[str, Any]] = []
        self._engine = engine
        self._config = config
        self._hooks = hooks
        self._on_round = on_round
        self._on_best = on_best
        method = find(config.method)
        tuned_on = finetune_data(engine.tasks, engine.target, config)
        self._data = TaskData(engine.tasks, config, engine.share, tuned_on)
        self._method = method(engine, self._data, config, hooks)
        self._dev_held_out = not trains_on_dev(engine.tasks, engine.target, config)
        self._best_round = 0
        self._finetune: Finetune | None = None
        """None as long as the rounds go on."""
        self._began, self._cpu_began = time.perf_counter(), time.process_time()
        self._round_began = self._began

    def where(self) -> dict[str, Any]:
        """Where the run stands, for people: round, phase, and there the turn, whose it is, and its step."""
        tasks, done = self._engine.tasks, self._method.so_far
        if self._finetune and self._finetune.epoch == self._config.finetune.epochs:
            return {"round": len(self.history), "phase": "done"}
        if self._finetune:
            where = {"phase": "fine-tune", "epoch": self._finetune.epoch + 1, "step": self._finetune.so_far.step}
            return {"round": len(self.history)} | where
        if done.nothing and not self.history:
            return {"round": 0, "phase": "start"}
        if done.nothing:
            return {"round": len(self.history), "phase": "round done"}
        where = {"round": len(self.history) + 1}
        if len(done.norm) == len(tasks):
            return where | {"phase": "α", "step": len(done.gradient)}
        turn = len(done.norm)
        return where | {"phase": "training", "turn": turn, "task": self._method.training(turn), "step": done.step}

    def state(self) -> dict[str, Any]:
        """Where the run stands, all but tensors, in JSON's types."""
        now, best = time.perf_counter(), self.best.evaluation
        return {
            "history": list(self.history),
            "best_round": self._best_round,
            "best": [best.loss, best.metric, best.higher_is_better] if best else None,
            "method": self._method.state(),
            "so_far": asdict(self._method.so_far),
            "finetune": asdict(self._finetune) if self._finetune else None,
            "data": self._data.state(),
            "seconds": now - self._began,
            "cpu_seconds": time.process_time() - self._cpu_began,
            "round_seconds": now - self._round_began,
        }

    def load(self, state: dict[str, Any], kept: Snapshot | None) -> None:
        """Go on from another run's `state`, with its best model so far; the engine has been loaded."""
        self.history = list(state["history"])
        self._best_round = state["best_round"]
        if state["best"]:
            self.best = Best(Evaluation(*state["best"]), kept)
        self._method.load(state["method"])
        self._method.so_far = RoundProgress(**state["so_far"])
        if finetune := state["finetune"]:
            self._finetune = Finetune(**finetune | {"so_far": RoundProgress(**finetune["so_far"])})
        self._data.load(state["data"])
        now = time.perf_counter()
        self._began, self._round_began = now - state["seconds"], now - state["round_seconds"]
        self._cpu_began = time.process_time() - state["cpu_seconds"]

    def run(self) -> Outcome:
        """Train for the rounds that are left, then fine-tune; leaves the best model in the engine."""
        per_round = self._data.steps_per_round
        epochs = self._config.finetune.epochs
        in_epochs = epochs * self._data.finetune_steps(self._engine.target) if epochs else 0
        self._hooks.planned(per_round, in_epochs)
        enough = False
        for round_ in range(len(self.history) + 1, self._config.rounds + 1):
            self._round(round_)
            if enough := self._hooks.enough():
                break
        if self._finetune is None:
            self._hooks.rounds_done()
            self._engine.restore(self.best.model)
            self._finetune = Finetune()
        if self._config.finetune.epochs and not enough:
            finetune(
                self._engine,
                self._data,
                self._config,
                self.best,
                self._finetune,
                self._hooks,
                not self._dev_held_out,
            )
            self._engine.restore(self.best.model)
        dev, test = measure_target(self._engine, self._data)
        require_finite(self._engine.tasks[self._engine.target].name, "at the end", dev, test)
        names = [task.name for task in self._engine.tasks]
        return Outcome(
            history=self.history,
            best_round=self._best_round,
            finetune_epoch=self._finetune.best_epoch,
            dev=dev,
            test=test,
            steps=dict(zip(names, self._data.steps_taken, strict=True)),
            examples_seen=dict(zip(names, self._data.examples_seen, strict=True)),
            rejected_steps=self._rejected(),
            dev_passes=self._data.dev_passes,
            dev_held_out=self._dev_held_out,
            seconds=time.perf_counter() - self._began,
            cpu_seconds=time.process_time() - self._cpu_began,
        )

    def _rejected(self) -> dict[str, int]:
        """Steps that were rejected, by task."""
        total = {
            task.name: sum(row["rejected_steps"][task.name] for row in self.history) for task in self._engine.tasks
        }
        if self._finetune:
            total[self._engine.tasks[self._engine.target].name] += self._finetune.rejected
        return total

    def _round(self, round_: int) -> None:
        record = self._method.round(round_)
        rejected = self._method.so_far.rejected
        self._method.so_far = RoundProgress()
        dev, test = measure_target(self._engine, self._data, self._config.test_every_round)
        require_finite(self._engine.tasks[self._engine.target].name, f"after round {round_}", dev, test)
        held_out = self._method.holds_out(round_)
        always = self._config.keep == "last" or not held_out
        if self.best.offer(dev, self._engine, always=always):
            self._best_round = round_
            self._on_best(round_, record.alpha)
        now = time.perf_counter()
        row = line_of(round_, record, rejected, dev, test, held_out, self._engine, now - self._round_began)
        self._round_began = now
        self.history.append(row)
        self._on_round(row)
        self._hooks.point()
