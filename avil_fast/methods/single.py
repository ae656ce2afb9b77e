"""Single-task training: the target alone, for as many steps as the other method spends on all tasks."""

from __future__ import annotations

from avil_fast.methods.base import Method, Progress, RoundRecord, train_task
from avil_fast.tasks.batches import derive_seed


class Single(Method):
    """The baseline at the matched total budget: each round takes the steps of all tasks together."""

    def round(self, round_: int, progress: Progress) -> RoundRecord:
        target, n = self.engine.target, len(self.engine.tasks)
        name = self.engine.tasks[target].name
        steps = sum(self.data.steps(task) for task in range(n))
        self.engine.begin_round()
        train_task(
            self.engine,
            target,
            derive_seed(self.config.seed, name, "train", round_),
            self.data.cycle(target, steps),
            lambda step: progress(name, step, steps),
        )
        run = self.engine.end_task(restore=False)

        def only(value: float, other: float) -> list[float]:
            return [value if task == target else other for task in range(n)]

        self.weight = only(1.0, 0.0)
        return RoundRecord(only(1.0, 0.0), self.weight, only(run.delta_norm, 0.0), only(run.loss, float("nan")))
