"""What a run draws from its tasks: batches of training data, dev and test sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from avil_fast.config import TrainConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.batch_sharding import ALL, Share
from avil_fast.tasks.batches import Batches
from avil_fast.tasks.loading import in_order
from avil_fast.tasks.task import Batch, Task


class TaskData:
    """The batches that a run draws from its tasks.

    Args:
        share: what this rank takes of every batch.
        finetune: what the fine-tune trains on, if that is not the target as the rounds have it.
    """

    def __init__(
        self, tasks: Sequence[Task], config: TrainConfig, share: Share = ALL, finetune: Task | None = None
    ) -> None:
        self.tasks = list(tasks)
        self._config = config
        self._share = share.in_one_part()
        self._train = [Batches(t, config.batch_size, config.seed, config.workers, share) for t in tasks]
        self._finetune = (
            None if finetune is None else Batches(finetune, config.batch_size, config.seed, config.workers, share)
        )
        self.steps_taken = [0] * len(tasks)
        """Training batches drawn so far, by task: the run's budget."""
        self.examples_seen = [0] * len(tasks)
        """Examples in these batches."""
        self.dev_passes = 0.0
        """Passes over dev sets so far."""
        draw = config.alpha.dev_examples
        self._dev_draws = {
            t.name: Batches(
                Task(t.name + "/dev", t.dev, t.loss, collate=t.collate),
                draw,
                config.seed,
                config.workers,
                self._share,
            )
            for t in tasks
            if t.dev is not None and draw is not None
        }

    def steps(self, task: int) -> int:
        """Optimizer steps of a task in a round, before its weight is looked at.

        "equal": every task takes K = ⌈ρ · mean of the tasks' passes⌉ steps, so that α compares like with
        like. "proportional": ρ of its own pass.
        """
        match self._config.steps_per_task:
            case "equal":
                passes = [batches.batches_per_pass for batches in self._train]
                mean = self._config.sample_ratio * sum(passes) / len(passes)
                return max(1, math.ceil(round(mean, 9)))  # 0.07 · 100 is a little more than 7
            case "proportional":
                return self._train[task].in_sample(self._config.sample_ratio)
            case number:
                return number

    @property
    def steps_per_round(self) -> int:
        """Optimizer steps of all tasks together in a round: its budget."""
        return sum(map(self.steps, range(len(self.tasks))))

    def finetune_steps(self, target: int) -> int:
        """Batches in an epoch of the fine-tune."""
        return (self._finetune or self._train[target]).batches_per_pass

    def finetune_batches(self, target: int, steps: int) -> Iterator[Batch]:
        """The next `steps` batches of the fine-tune."""
        return self._counted(target, (self._finetune or self._train[target]).cycle(steps))

    def steps_per_pass(self, task: int) -> int:
        """Batches in one pass over a task's training data."""
        return self._train[task].batches_per_pass

    def cycle(self, task: int, steps: int) -> Iterator[Batch]:
        """The next `steps` full batches of a task, shuffled pass after pass."""
        return self._counted(task, self._train[task].cycle(steps))

    def training(
        self, task: int, round_: int, factor: float = 1.0, skip: int = 0, with_dev: bool = False
    ) -> tuple[int, Iterator[Batch]]:
        """(number of batches, batches) for a task's turn.

        Args:
            factor: multiplies the turn's length.
            skip: batches of this turn that were drawn before; they are counted, but not drawn again.
            with_dev: draw from the fine-tune's data.
        """
        if with_dev:
            steps = round(factor * self.steps(task))
            return steps, self.finetune_batches(task, steps - skip)
        if self._config.steps_per_task == "proportional" and factor == 1.0:
            ratio = self._config.sample_ratio
            batches = self._train[task].sample(ratio, round_, skip)
            sizes = self._train[task].sizes_in_sample(ratio)
            return self.steps(task), self._counted(task, batches, None if sizes is None else sizes[skip:])
        steps = round(factor * self.steps(task))
        return steps, self.cycle(task, steps - skip)

    def mixed(self, order: Sequence[int], with_dev: int | None = None) -> Iterator[Batch]:
        """The next full batches of tasks in this order; those of task `with_dev` from the fine-tune's data."""
        streams = {
            task: (self.finetune_batches if task == with_dev else self.cycle)(task, order.count(task))
            for task in dict.fromkeys(order)
        }
        for task in order:
            yield next(streams[task])

    def _counted(self, task: int, batches: Iterator[Batch], sizes: Sequence[int] | None = None) -> Iterator[Batch]:
        """The batches, counted together with their examples, of which there are as many as `sizes` says."""
        for number, batch in enumerate(batches):
            self.steps_taken[task] += 1
            self.examples_seen[task] += self._train[task].examples_in(batch) if sizes is None else sizes[number]
            yield batch

    def state(self) -> dict[str, Any]:
        """What has been drawn so far, for `load`; in JSON's types."""
        return {
            "steps_taken": list(self.steps_taken),
            "examples_seen": list(self.examples_seen),
            "dev_passes": self.dev_passes,
            "train": [batches.state() for batches in self._train],
            "tail": self._finetune.state() if self._finetune else None,
            "dev_draws": {name: batches.state() for name, batches in self._dev_draws.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on where another run stood."""
        self.steps_taken, self.examples_seen = list(state["steps_taken"]), list(state["examples_seen"])
        self.dev_passes = state["dev_passes"]
        for batches, saved in zip(self._train, state["train"], strict=True):
            batches.load(saved)
        if self._finetune is not None and state["tail"] is not None:
            self._finetune.load(state["tail"])
        for name, batches in self._dev_draws.items():
            batches.load(state["dev_draws"][name])

    def dev(self, task: int) -> Iterator[Batch]:
        """The whole dev set of a task, in order."""
        self.dev_passes += 1
        return self._evaluation(task, "dev")

    def test(self, task: int) -> Iterator[Batch]:
        """The whole test set of a task, in order."""
        return self._evaluation(task, "test")

    def dev_draw(self, task: int) -> Iterator[Batch]:
        """Dev batches for one α step: the whole set, or `alpha.dev_examples` drawn anew."""
        draws = self._dev_draws.get(self.tasks[task].name)
        if draws is None:
            return self.dev(task)
        self.dev_passes += min(1.0, draws.part_of_pass)
        return draws.cycle(1)

    def _evaluation(self, task: int, split: str) -> Iterator[Batch]:
        owner = self.tasks[task]
        data = owner.dev if split == "dev" else owner.test
        if data is None:
            raise AvilError(f"task {owner.name!r} has no {split} set; give it one")
        return in_order(data, self._config.eval_batch_size, owner.collate, self._config.workers, self._share)
