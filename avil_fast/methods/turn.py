"""A task's turn: steps on its batches, which a run can be taken up from in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import repeat

from torch import Tensor

from avil_fast.engine.base import Engine
from avil_fast.engine.results import Table, TaskRun
from avil_fast.errors import Diverged
from avil_fast.tasks.task import Batch


@dataclass(frozen=True)
class Hooks:
    """What a run calls as it goes on: to tell how far it is, where it can be saved, and to ask whether to end."""

    progress: Callable[[str, int, int, Tensor], None] = lambda task, step, steps, loss: None
    """Called with (task, step, steps, loss) after every optimizer step; see `Observer.progress`."""
    planned: Callable[[int, int], None] = lambda steps, finetune: None
    """Called before the first step; see `Observer.planned`."""
    point: Callable[[], None] = lambda: None
    """Called where a run can be saved and taken up again: after steps, tasks, α steps and rounds."""
    rounds_done: Callable[[], None] = lambda: None
    """Called after the last round, from where a run with more rounds would go on."""
    enough: Callable[[], bool] = lambda: False
    """Called after every round and every epoch of the fine-tune: whether the run ends here."""


@dataclass
class RoundProgress:
    """What of the present round is done: enough to go on from any point of it. In JSON's types."""

    norm: list[float] = field(default_factory=list)
    """‖δ_i‖ of the tasks that have trained."""
    loss: list[float | None] = field(default_factory=list)
    """Mean training losses of the tasks that have trained; None for a task without a step."""
    step: int = 0
    """Optimizer steps that the task that trains has taken."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Steps that were rejected in the turns that have ended, by the task whose loss it was; no entry for none."""
    gradient: list[Table] = field(default_factory=list)
    """∂L/∂α of every step of the α phase; empty for one that was rejected."""
    at_third: Table | None = None
    """∂L/∂α after the last step, at a third of the α of the last gradient; empty if it is not finite."""

    @property
    def nothing(self) -> bool:
        """Whether the round has not begun."""
        return self == RoundProgress()

    def end_task(self, run: TaskRun) -> None:
        """The task that trained has ended."""
        self.norm.append(run.delta_norm)
        self.loss.append(run.loss if math.isfinite(run.loss) else None)
        self.step = 0


def train_task(
    engine: Engine,
    task: int,
    seed: int,
    batches: Iterable[Batch],
    so_far: RoundProgress,
    hooks: Hooks,
    *,
    name: str,
    steps: int,
    patience: int,
    where: str,
    before: int = 0,
    loss_weight: float = 1.0,
    lr_scale: Iterable[float] = repeat(1.0),
    task_of_step: Iterable[int | None] = repeat(None),
) -> None:
    """Train a task: one step on each batch, from `begin_task` to just before `end_task`.

    Args:
        batches: those that are left, if the task has trained before.
        so_far: its `step` counts.
        hooks: told of every step.
        name, steps: what it is told.
        patience: `max_rejected_steps`.
        where: of the run, for an error.
        before: steps that it is to count besides.
        lr_scale: the factor on the learning rate for each step that is left.
        task_of_step: whose loss is trained, for each step that is left; None: `task`'s.

    Raises:
        Diverged: so many steps in a row were rejected.
    """
    if so_far.step == 0:
        engine.begin_task(task, seed)
    for batch, scale, of in zip(engine.fetch(batches), lr_scale, task_of_step, strict=False):
        loss = engine.train_step(batch, task=of, loss_weight=loss_weight, lr_scale=scale)
        so_far.step += 1
        _require_patience(engine, patience, f"step {so_far.step} of {where}")
        hooks.progress(name, before + so_far.step, steps, loss)
        hooks.point()
    _require_patience(engine, patience, f"step {so_far.step} of {where}", wait=True)


def _require_patience(engine: Engine, patience: int, where: str, wait: bool = False) -> None:
    for task, count in zip(engine.tasks, engine.rejected_in_a_row(wait=wait), strict=True):
        if count >= patience:
            raise Diverged(
                f"task {task.name!r}: its last {count} step{'s' * (count > 1)} up to {where} were rejected, as a "
                f"loss or gradient was not finite; lower optimizer.lr, set optimizer.clip_norm, or check the data"
            )
