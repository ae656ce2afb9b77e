"""The tail of every method: train on the target alone, the learning rate decaying to 0."""

from __future__ import annotations

from avil_fast.engine.base import Engine, Evaluation
from avil_fast.methods.base import Progress, TaskData
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
    best, best_epoch, kept = before, 0, engine.snapshot()
    for epoch in range(1, epochs + 1):
        engine.begin_round()
        engine.begin_task(target, derive_seed(seed, engine.tasks[target].name, "finetune", epoch))
        batches = data.cycle(target, steps)
        for step, batch in enumerate(engine.fetch(batches)):
            done = ((epoch - 1) * steps + step) / (epochs * steps)
            engine.train_step(batch, lr_scale=1 - done)
            progress("fine-tune", (epoch - 1) * steps + step + 1, epochs * steps)
        engine.end_task(restore=False)
        now = engine.evaluate(target, data.dev(target))
        if now.better_than(best):
            best, best_epoch, kept = now, epoch, engine.snapshot()
    engine.restore(kept)
    return best, best_epoch
