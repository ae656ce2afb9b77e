"""Single-task training: the target alone, for as many steps as the other method spends on all tasks."""

from __future__ import annotations

from avil_fast.methods.base import Method, RoundRecord, train_task
from avil_fast.tasks.batches import derive_seed


class Single(Method):
    """The baseline at the matched total budget: each round takes the steps of all tasks together."""

    def training(self, turn: int) -> str:
        return self.engine.tasks[self.engine.target].name

    def round(self, round_: int) -> RoundRecord:
        target, n, done = self.engine.target, len(self.engine.tasks), self.so_far
        name = self.engine.tasks[target].name
        steps = sum(self.data.steps(task) for task in range(n))
        if done.nothing:
            self.engine.begin_round()
        train_task(
            self.engine,
            target,
            derive_seed(self.config.seed, name, "train", round_),
            self.data.cycle(target, steps - done.step),
            done,
            self.watch,
            name=name,
            steps=steps,
        )
        done.end_task(self.engine.end_task(restore=False))
        only = [1.0 if task == target else 0.0 for task in range(n)]
        self.weight = only
        norms = [done.norm[0] if task == target else 0.0 for task in range(n)]
        losses = [done.loss[0] if task == target else None for task in range(n)]
        return RoundRecord(only, only, norms, losses)
