"""What a method is: a way to spend a round on an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from avil_fast.config import TrainConfig
from avil_fast.engine.base import Engine
from avil_fast.errors import AvilError
from avil_fast.tasks.batches import ALL, Batches, in_order
from avil_fast.tasks.share import Share
from avil_fast.tasks.task import Batch, Task

Progress = Callable[[str, int, int], None]
"""Called with (task, step, steps) as a round goes on."""


@dataclass
class RoundRecord:
    """What a round did; lists are in the order of the tasks."""

    alpha: list[float]
    weight: list[float]
    """The weights that the next round trains with."""
    delta_norm: list[float]
    train_loss: list[float]
    alpha_path: list[list[float]] = field(default_factory=list)
    """α at the start of the α phase and after each of its steps."""
    cosine: list[list[float]] = field(default_factory=list)
    """cos(δ_i, δ_j); 0 where a delta is zero."""


class TaskData:
    """The batches that a run draws from its tasks."""

    def __init__(self, tasks: Sequence[Task], config: TrainConfig, share: Share = ALL) -> None:
        self.tasks = list(tasks)
        self._config = config
        self._share = share.in_one_part()
        self._train = [Batches(t, config.batch_size, config.seed, config.workers, share) for t in tasks]
        self.steps_taken = [0] * len(tasks)
        """Training batches drawn so far, by task: the run's budget."""
        draw = config.alpha.dev_examples
        self._dev_draws = {
            t.name: Batches(
                Task(t.name + "/dev", t.dev, t.loss, collate=t.collate),
                draw or 1,
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
                return max(1, -int(-self._config.sample_ratio * sum(passes) // len(passes)))
            case "proportional":
                return max(1, round(self._config.sample_ratio * self.steps_per_pass(task)))
            case number:
                return number

    def steps_per_pass(self, task: int) -> int:
        """Batches in one pass over a task's training data."""
        return self._train[task].batches_per_pass

    def cycle(self, task: int, steps: int) -> Iterator[Batch]:
        """The next `steps` full batches of a task, shuffled pass after pass."""
        self.steps_taken[task] += steps
        return self._train[task].cycle(steps)

    def training(self, task: int, round_: int, factor: float = 1.0) -> tuple[int, Iterator[Batch]]:
        """(number of batches, batches) for a task's turn; `factor` multiplies its length."""
        if self._config.steps_per_task == "proportional" and factor == 1.0:
            self.steps_taken[task] += self.steps(task)
            return self.steps(task), self._train[task].sample(self._config.sample_ratio, round_)
        steps = round(factor * self.steps(task))
        return steps, self.cycle(task, steps)

    def dev(self, task: int) -> Iterator[Batch]:
        """The whole dev set of a task, in order."""
        return self._evaluation(task, "dev")

    def test(self, task: int) -> Iterator[Batch]:
        """The whole test set of a task, in order."""
        return self._evaluation(task, "test")

    def dev_draw(self, task: int) -> Iterator[Batch]:
        """Dev batches for one α step: the whole set, or `alpha.dev_examples` drawn anew."""
        draws = self._dev_draws.get(self.tasks[task].name)
        return self.dev(task) if draws is None else draws.cycle(1)

    def _evaluation(self, task: int, split: str) -> Iterator[Batch]:
        owner = self.tasks[task]
        data = owner.dev if split == "dev" else owner.test
        if data is None:
            raise AvilError(f"task {owner.name!r} has no {split} set; give it one")
        return in_order(data, self._config.eval_batch_size, owner.collate, self._config.workers, self._share)


def train_task(
    engine: Engine,
    task: int,
    seed: int,
    batches: Iterable[Batch],
    progress: Callable[[int], None],
    *,
    loss_weight: float = 1.0,
    lr_scale: Iterable[float] = repeat(1.0),
) -> None:
    """A step on each batch, from `begin_task` to just before `end_task`.

    Args:
        progress: called with the number of steps done.
        lr_scale: the factor on the learning rate for each step.
    """
    engine.begin_task(task, seed)
    for step, (batch, scale) in enumerate(zip(engine.fetch(batches), lr_scale, strict=False), 1):
        engine.train_step(batch, loss_weight=loss_weight, lr_scale=scale)
        progress(step)


class Method(ABC):
    """A training method: scalars and order. It never touches a tensor of the model."""

    def __init__(self, engine: Engine, data: TaskData, config: TrainConfig) -> None:
        self.engine = engine
        self.data = data
        self.config = config
        self.weight = [1.0] * len(engine.tasks)

    @abstractmethod
    def round(self, round_: int, progress: Progress) -> RoundRecord:
        """Run one round; θ is better afterwards, or at least different."""
