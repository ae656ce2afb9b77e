"""The end of every method: train on the target alone, the learning rate decaying to 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from avil_fast.config import TrainConfig
from avil_fast.engine.base import Engine
from avil_fast.methods import find
from avil_fast.methods.best import Best
from avil_fast.methods.data import TaskData
from avil_fast.methods.turn import Hooks, RoundProgress, train_task
from avil_fast.randomness import derive_seed
from avil_fast.tasks.task import Task
from avil_fast.tasks.train_and_dev import with_dev


@dataclass
class Finetune:
    """How far the fine-tune has come. In JSON's types."""

    epoch: int = 0
    """Epochs that are done."""
    so_far: RoundProgress = field(default_factory=RoundProgress)
    """What is done of the next epoch."""
    best_epoch: int = 0
    """The epoch that is kept; 0 is "no change"."""
    rejected: int = 0
    """Steps that were rejected."""


def trains_on_dev(tasks: Sequence[Task], target: int, config: TrainConfig) -> bool:
    """Whether the target's dev set is training data sooner or later."""
    return find(config.method).held_out_rounds(config, tasks[target]) == 0 or _joins_dev(tasks[target], config)


def finetune_data(tasks: Sequence[Task], target: int, config: TrainConfig) -> Task | None:
    """What the fine-tune trains on, if that is not the target as the rounds have it."""
    return with_dev(tasks[target]) if _joins_dev(tasks[target], config) else None


def _joins_dev(target: Task, config: TrainConfig) -> bool:
    """Whether the dev set becomes training data on the way, in a round or in the fine-tune."""
    held_out = find(config.method).held_out_rounds(config, target)
    in_finetune = config.finetune.data == "train+dev" and config.finetune.epochs > 0
    return held_out > 0 and (in_finetune or held_out < config.rounds)


def finetune(
    engine: Engine,
    data: TaskData,
    config: TrainConfig,
    best: Best,
    done: Finetune,
    hooks: Hooks,
    always: bool = False,
) -> None:
    """Train on the target alone, the learning rate decaying linearly to 0, and offer every epoch to `best`.

    Args:
        done: where to go on from; complete afterwards.
        always: every epoch counts as the best.
    """
    target, epochs = engine.target, config.finetune.epochs
    steps = data.finetune_steps(target)
    total = epochs * steps
    for epoch in range(done.epoch + 1, epochs + 1):
        taken = done.epoch * steps
        if done.so_far.nothing:
            engine.begin_round()
        train_task(
            engine,
            target,
            derive_seed(config.seed, engine.tasks[target].name, "finetune", epoch),
            data.finetune_batches(target, steps - done.so_far.step),
            done.so_far,
            hooks,
            name="fine-tune",
            steps=total,
            patience=config.max_rejected_steps,
            where=f"epoch {epoch} of the fine-tune",
            before=taken,
            lr_scale=[1 - step / total for step in range(taken + done.so_far.step, taken + steps)],
        )
        done.rejected += sum(engine.end_task(restore=False).rejected)
        done.epoch, done.so_far = epoch, RoundProgress()
        if best.offer(engine.evaluate(target, data.dev(target)), engine, always=always):
            done.best_epoch = epoch
        hooks.point()
        if hooks.enough():
            break
