"""The tail of every method: train on the target alone, the learning rate decaying to 0."""

from __future__ import annotations

from itertools import count

from avil_fast.engine.base import Engine, Evaluation
from avil_fast.methods.base import Progress, TaskData, train_task
from avil_fast.tasks.batches import derive_seed


def finetune(
    engine: Engine, data: TaskData, epochs: int, before: Evaluation, seed: int, progress: Progress
) -> tuple[Evaluation, int]:
    """Linear decay from the full learning rate to 0; the best epoch on dev is kept, or none.

    Returns:
        The dev evaluation of what was kept, and the epoch it comes from; 0 is "no change".
    """
    target = engine.target
    steps = data.steps_per_pass(target)
    total = epochs * steps
    taken = count(1)
    decay = (1 - step / total for step in range(total))
    best, best_epoch, kept = before, 0, engine.snapshot()
    for epoch in range(1, epochs + 1):
        engine.begin_round()
        train_task(
            engine,
            target,
            derive_seed(seed, engine.tasks[target].name, "finetune", epoch),
            data.cycle(target, steps),
            lambda step: progress("fine-tune", next(taken), total),
            lr_scale=decay,
        )
        engine.end_task(restore=False)
        now = engine.evaluate(target, data.dev(target))
        if now.better_than(best):
            best, best_epoch, kept = now, epoch, engine.snapshot()
    engine.restore(kept)
    return best, best_epoch
