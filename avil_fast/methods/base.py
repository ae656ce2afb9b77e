"""What a method is: a way to spend a round on an engine."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, ClassVar

import torch
from torch import Tensor

from avil_fast.config import TrainConfig
from avil_fast.engine.base import Engine, Table, TaskRun
from avil_fast.engine.parameters import Granularity
from avil_fast.errors import AvilError, Diverged
from avil_fast.section import Section
from avil_fast.tasks.batches import ALL, Batches, derive_seed, in_order
from avil_fast.tasks.share import Share
from avil_fast.tasks.task import Batch, Task


@dataclass(frozen=True)
class Watch:
    """Is told how a run goes on."""

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
    """Of the α phase: those whose loss or gradient was not finite."""
    alpha_layers: Table = field(default_factory=list)
    """α of every group, where groups have α of their own; `alpha` is its mean over their elements then."""


class TaskData:
    """The batches that a run draws from its tasks.

    Args:
        share: what this rank takes of every batch.
        tail: of the fine-tune, if that is not on the target's own data.
    """

    def __init__(
        self, tasks: Sequence[Task], config: TrainConfig, share: Share = ALL, tail: Task | None = None
    ) -> None:
        self.tasks = list(tasks)
        self._config = config
        self._share = share.in_one_part()
        self._train = [Batches(t, config.batch_size, config.seed, config.workers, share) for t in tasks]
        self._tail = None if tail is None else Batches(tail, config.batch_size, config.seed, config.workers, share)
        self.steps_taken = [0] * len(tasks)
        """Training batches drawn so far, by task: the run's budget."""
        self.dev_passes = 0.0
        """Passes over dev sets so far."""
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

    def steps_of_tail(self, target: int) -> int:
        """Batches in an epoch of the fine-tune."""
        return (self._tail or self._train[target]).batches_per_pass

    def tail(self, target: int, steps: int) -> Iterator[Batch]:
        """The next `steps` batches of the fine-tune."""
        return self._counted(target, (self._tail or self._train[target]).cycle(steps))

    def steps_per_pass(self, task: int) -> int:
        """Batches in one pass over a task's training data."""
        return self._train[task].batches_per_pass

    def cycle(self, task: int, steps: int) -> Iterator[Batch]:
        """The next `steps` full batches of a task, shuffled pass after pass."""
        return self._counted(task, self._train[task].cycle(steps))

    def training(
        self, task: int, round_: int, factor: float = 1.0, skip: int = 0, joined: bool = False
    ) -> tuple[int, Iterator[Batch]]:
        """(number of batches, batches) for a task's turn.

        Args:
            factor: multiplies the turn's length.
            skip: batches of this turn that were drawn before; they are counted, but not drawn again.
            joined: draw from the fine-tune's data.
        """
        if joined:
            steps = round(factor * self.steps(task))
            return steps, self.tail(task, steps - skip)
        if self._config.steps_per_task == "proportional" and factor == 1.0:
            batches = self._train[task].sample(self._config.sample_ratio, round_, skip)
            return self.steps(task), self._counted(task, batches)
        steps = round(factor * self.steps(task))
        return steps, self.cycle(task, steps - skip)

    def mixed(self, order: Sequence[int], joined: int | None = None) -> Iterator[Batch]:
        """The next full batches of tasks in this order; those of task `joined` from the fine-tune's data."""
        streams = {
            task: (self.tail if task == joined else self.cycle)(task, order.count(task))
            for task in dict.fromkeys(order)
        }
        for task in order:
            yield next(streams[task])

    def _counted(self, task: int, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.steps_taken[task] += 1
            yield batch

    def state(self) -> dict[str, Any]:
        """What has been drawn so far, for `load`; in JSON's types."""
        return {
            "steps_taken": list(self.steps_taken),
            "dev_passes": self.dev_passes,
            "train": [batches.state() for batches in self._train],
            "tail": self._tail.state() if self._tail else None,
            "dev_draws": {name: batches.state() for name, batches in self._dev_draws.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on where another run stood."""
        self.steps_taken = list(state["steps_taken"])
        self.dev_passes = state["dev_passes"]
        for batches, saved in zip(self._train, state["train"], strict=True):
            batches.load(saved)
        if self._tail is not None and state["tail"] is not None:
            self._tail.load(state["tail"])
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


@dataclass
class SoFar:
    """What of the present round is done: enough to go on from any point of it. In JSON's types."""

    norm: list[float] = field(default_factory=list)
    """‖δ_i‖ of the tasks that have trained."""
    loss: list[float | None] = field(default_factory=list)
    """Their mean losses; None for a task without a step."""
    step: int = 0
    """Optimizer steps of the task that trains."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Steps that were rejected in the turns that have ended, by the task whose loss it was; no entry for none."""
    gradient: list[Table] = field(default_factory=list)
    """∂L/∂α of every step of the α phase; empty for one that was rejected."""
    at_third: Table | None = None
    """∂L/∂α after the last step, at a third of the α of the last gradient; empty if it is not finite."""

    @property
    def nothing(self) -> bool:
        return self == SoFar()

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
    so_far: SoFar,
    watch: Watch,
    *,
    name: str,
    steps: int,
    patience: int,
    where: str,
    before: int = 0,
    loss_weight: float = 1.0,
    lr_scale: Iterable[float] = repeat(1.0),
    losses: Iterable[int | None] = repeat(None),
) -> None:
    """A step on each batch, from `begin_task` to just before `end_task`.

    Args:
        batches: those that are left, if the task has trained before.
        so_far: its `step` counts.
        watch: told of every step.
        name, steps: what it is told.
        patience: `max_rejected_steps`.
        where: of the run, for an error.
        before: steps that it is to count besides.
        lr_scale: the factor on the learning rate for each step that is left.
        losses: for each of these the task whose loss is trained; None: the one whose turn it is.

    Raises:
        Diverged: so many steps in a row were rejected.
    """
    if so_far.step == 0:
        engine.begin_task(task, seed)
    for batch, scale, of in zip(engine.fetch(batches), lr_scale, losses, strict=False):
        loss = engine.train_step(batch, task=of, loss_weight=loss_weight, lr_scale=scale)
        so_far.step += 1
        _require_patience(engine, patience, f"step {so_far.step} of {where}")
        watch.progress(name, before + so_far.step, steps, loss)
        watch.point()
    _require_patience(engine, patience, f"step {so_far.step} of {where}", wait=True)


def _require_patience(engine: Engine, patience: int, where: str, wait: bool = False) -> None:
    for task, count in zip(engine.tasks, engine.rejected_in_a_row(wait=wait), strict=True):
        if count >= patience:
            raise Diverged(
                f"task {task.name!r}: its last {count} step{'s' * (count > 1)} up to {where} were rejected, as a "
                f"loss or gradient was not finite; lower optimizer.lr, set optimizer.clip_norm, or check the data"
            )


@dataclass(frozen=True)
class Joint:
    """What a turn of all tasks did, in their order."""

    delta_norm: list[float]
    """Of the whole turn, as the target's."""
    train_loss: list[float | None]


def share_out(total: int, shares: Sequence[float]) -> list[int]:
    """So many steps in whole numbers, in proportion to the shares; none is more than one off."""
    ends = [round(total * sum(shares[: task + 1]) / sum(shares)) for task in range(len(shares))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


class Method(ABC):
    """A training method: scalars and order. It never touches a tensor of the model.

    Attributes:
        options: its own settings, `options` in a run's file.
        weight: w_i, changed at the end of a round at the earliest.
        so_far: what of a round is done; a round goes on from there, and leaves it complete.
        held_out: `held_out_rounds`.
    """

    class Options(Section):
        """Its own settings; none."""

    keeps_deltas: ClassVar[bool] = True
    """Every task has its turn in a round, and its delta is there at the end."""

    def __init__(self, engine: Engine, data: TaskData, config: TrainConfig, watch: Watch) -> None:
        self.engine = engine
        self.data = data
        self.config = config
        self.watch = watch
        self.options: Any = self.Options(**config.options)
        self.weight = [1.0] * len(engine.tasks)
        self.so_far = SoFar()
        self.held_out = self.held_out_rounds(config, engine.tasks[engine.target])

    @classmethod
    def held_out_rounds(cls, config: TrainConfig, target: Task) -> int:
        """After how many rounds the target's dev set becomes training data, and can judge no more; all: never."""
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
        """The name of the task that trains in a round's turn, counted from 0."""
        return self.engine.tasks[turn].name

    @abstractmethod
    def round(self, round_: int) -> RoundRecord:
        """Run one round, or what is left of it; θ is better afterwards, or at least different."""

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
        losses: Sequence[int] | None = None,
        factor: float = 1.0,
        loss_weight: float = 1.0,
        lr_scale: float = 1.0,
        joined: bool = False,
        restore: bool = True,
    ) -> TaskRun:
        """Train in a task's turn, or what is left of it.

        Args:
            losses: of every step the task whose loss is trained; by default all are the turn's own.
            factor: multiplies the turn's length.
            joined: the target's dev set is among its training data.
            restore: keep the delta and put θ back; else θ stays where the turn has left it.
        """
        done, task = self.so_far, self.engine.tasks[turn]
        left: Iterable[int | None]
        if losses is None:
            left = repeat(None)
            steps, batches = self.data.training(turn, round_, factor, done.step, joined)
        else:
            steps, left = len(losses), losses[done.step :]
            batches = self.data.mixed(losses[done.step :], turn if joined else None)
        train_task(
            self.engine,
            turn,
            derive_seed(self.config.seed, task.name, "train", round_),
            batches,
            done,
            self.watch,
            name=self.training(turn),
            steps=steps,
            patience=self.config.max_rejected_steps,
            where=f"round {round_}",
            loss_weight=loss_weight,
            lr_scale=repeat(lr_scale),
            losses=left,
        )
        run = self.engine.end_task(restore=restore)
        done.end_task(run)
        for of, rejected in zip(repeat(turn) if losses is None else losses, run.rejected, strict=False):
            if rejected:
                owner = self.engine.tasks[of].name
                done.rejected[owner] = done.rejected.get(owner, 0) + 1
        return run

    def train_jointly(self, round_: int, steps: Sequence[int], *, joined: bool = False) -> Joint:
        """Train all tasks in the target's turn, with its moments: so many batches of each, in a random order.

        θ stays where that leaves it. `joined` as in `take_turn`.
        """
        target, order = self.engine.target, self.shuffled(steps, round_)
        run = self.take_turn(target, round_, losses=order, joined=joined, restore=False)
        losses: list[float | None] = []
        for task in range(len(steps)):
            own = [loss for of, loss in zip(order, run.losses, strict=True) if of == task and math.isfinite(loss)]
            losses.append(sum(own) / len(own) if own else None)
        return Joint([run.delta_norm if task == target else 0.0 for task in range(len(steps))], losses)

    def shuffled(self, steps: Sequence[int], *seed: object) -> list[int]:
        """So many steps of every task, as an order in which they are taken."""
        order = [task for task, count in enumerate(steps) for _ in range(count)]
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, "order", *seed))
        return [order[place] for place in torch.randperm(len(order), generator=generator).tolist()]
