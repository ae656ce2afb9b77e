"""What a method is: a way to spend a round on an engine."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, ClassVar

import torch

from avil_fast.config import TrainConfig
from avil_fast.config.base import Section
from avil_fast.engine.base import Engine
from avil_fast.engine.parameters import Granularity
from avil_fast.engine.results import Table, TaskRun
from avil_fast.methods.data import TaskData
from avil_fast.methods.turn import Hooks, RoundProgress, train_task
from avil_fast.randomness import derive_seed
from avil_fast.tasks.task import Task


@dataclass
class RoundRecord:
    """What a round did; lists are in the order of the tasks."""

    alpha: list[float]
    weight: list[float]
    """The weights that the next round trains with."""
    delta_norm: list[float]
    train_loss: list[float | None]
    """None for a task without a step."""
    alpha_path: list[list[float]] = field(default_factory=list)
    """α at the start of the α phase and after each of its steps."""
    cosine: list[list[float]] = field(default_factory=list)
    """cos(δ_i, δ_j); 0 where a delta is zero."""
    benefit: list[float] = field(default_factory=list)
    """By how much each task lowered the target's dev loss, at the last α whose gradient was taken; empty where no
    gradient was."""
    rejected_alpha_steps: int = 0
    """Steps of the α phase whose loss or gradient was not finite."""
    share: list[float] = field(default_factory=list)
    """What each task had of the round's steps, as a part of what the target had; empty where α does not decide
    that."""
    restarted: bool = False
    """Training began anew before this round, or an earlier one."""
    alpha_layers: Table = field(default_factory=list)
    """α of every group, where groups have α of their own; `alpha` is its mean over their elements then."""


@dataclass(frozen=True)
class Joint:
    """What a joint turn of all tasks did; lists are in the order of the tasks."""

    delta_norm: list[float]
    """The norm of the whole turn's change of θ for the target, 0 for the other tasks."""
    train_loss: list[float | None]


class Method(ABC):
    """A training method: scalars and order. It never touches a tensor of the model.

    Attributes:
        options: its own settings, `options` in a run's file.
        weight: w_i, changed at the end of a round at the earliest.
        so_far: what of a round is done; a round goes on from there, and leaves it complete.
        held_out: `held_out_rounds`.
    """

    class Options(Section):
        """The method's own settings: none, unless a subclass has some."""

    packages: ClassVar[Sequence[str]] = ()
    """Packages of the extra `conflicts` that the method needs."""
    keeps_deltas: ClassVar[bool] = True
    """Whether every task has its turn in a round, and its delta is there at the end."""

    def __init__(self, engine: Engine, data: TaskData, config: TrainConfig, hooks: Hooks) -> None:
        self.engine = engine
        self.data = data
        self.config = config
        self.hooks = hooks
        self.options: Any = self.Options(**config.options)
        self.weight = [1.0] * len(engine.tasks)
        self.so_far = RoundProgress()
        self.held_out = self.held_out_rounds(config, engine.tasks[engine.target])

    @classmethod
    def held_out_rounds(cls, config: TrainConfig, target: Task) -> int:
        """Number of rounds until the target's dev set becomes training data, and judges no more; all: never."""
        return config.rounds

    @classmethod
    def granularity(cls, config: TrainConfig) -> Granularity:
        """What has coefficients of its own, of which the engine makes groups."""
        return "model"

    def holds_out(self, round_: int) -> bool:
        """Whether the target's dev set has not been trained on when this round ends."""
        return round_ <= self.held_out

    @classmethod
    def trained(cls, tasks: Sequence[Task], target: int) -> list[Task]:
        """The tasks as they are trained, for a method that trains on other data or has no head of the target."""
        return list(tasks)

    def training(self, turn: int) -> str:
        """Name of the task that trains in a turn of a round, from 0; the target's, where no deltas are kept."""
        return self.engine.tasks[turn if self.keeps_deltas else self.engine.target].name

    @abstractmethod
    def round(self, round_: int) -> RoundRecord:
        """Run round `round_` (from 1), or the rest of it after a resume; return what it did."""

    def state(self) -> dict[str, Any]:
        """What the next round depends on besides the engine and the data, for `load`; in JSON's types."""
        return {"weight": list(self.weight)}

    def load(self, state: dict[str, Any]) -> None:
        """Go on where another run stood."""
        self.weight = list(state["weight"])

    def begin(self) -> None:
        """Begin a round, unless it has begun."""
        if self.so_far.nothing:
            self.engine.begin_round()

    def take_turn(
        self,
        turn: int,
        round_: int,
        *,
        task_of_step: Sequence[int] | None = None,
        factor: float = 1.0,
        loss_weight: float = 1.0,
        lr_scale: float = 1.0,
        with_dev: bool = False,
        restore: bool = True,
    ) -> TaskRun:
        """Train in a task's turn, or what is left of it.

        Args:
            task_of_step: whose loss is trained, by step; None: the turn's own task in all.
            factor: multiplies the turn's length.
            with_dev: the target's dev set is among its training data.
            restore: keep the delta and put θ back; else θ stays where the turn has left it.
        """
        done, task = self.so_far, self.engine.tasks[turn]
        left: Iterable[int | None]
        if task_of_step is None:
            left = repeat(None)
            steps, batches = self.data.training(turn, round_, factor, done.step, with_dev)
        else:
            steps, left = len(task_of_step), task_of_step[done.step :]
            batches = self.data.mixed(task_of_step[done.step :], turn if with_dev else None)
        train_task(
            self.engine,
            turn,
            derive_seed(self.config.seed, task.name, "train", round_),
            batches,
            done,
            self.hooks,
            name=self.training(turn),
            steps=steps,
            patience=self.config.max_rejected_steps,
            where=f"round {round_}",
            loss_weight=loss_weight,
            lr_scale=repeat(lr_scale),
            task_of_step=left,
        )
        run = self.engine.end_task(restore=restore)
        done.end_task(run)
        owners = repeat(turn) if task_of_step is None else task_of_step
        for of, rejected in zip(owners, run.rejected, strict=False):
            if rejected:
                owner = self.engine.tasks[of].name
                done.rejected[owner] = done.rejected.get(owner, 0) + 1
        return run

    def train_jointly(self, round_: int, steps: Sequence[int], *, with_dev: bool = False) -> Joint:
        """Train all tasks in the target's turn, with its moments: so many batches of each, in a random order.

        θ stays where that leaves it. `with_dev` as in `take_turn`.
        """
        target, order = self.engine.target, self.shuffled(steps, round_)
        run = self.take_turn(target, round_, task_of_step=order, with_dev=with_dev, restore=False)
        losses: list[float | None] = []
        for task in range(len(steps)):
            own = [loss for of, loss in zip(order, run.losses, strict=True) if of == task and math.isfinite(loss)]
            losses.append(sum(own) / len(own) if own else None)
        return Joint([run.delta_norm if task == target else 0.0 for task in range(len(steps))], losses)

    def shuffled(self, steps: Sequence[int], *seed: object) -> list[int]:
        """Tasks, `steps[task]` times each, in a random order that the run's seed and `seed` decide."""
        order = [task for task, count in enumerate(steps) for _ in range(count)]
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, "order", *seed))
        return [order[place] for place in torch.randperm(len(order), generator=generator).tolist()]
