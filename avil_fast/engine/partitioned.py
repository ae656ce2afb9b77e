"""A round on flat partitions: all of the contract that does not depend on where they lie.

A subclass brings the partitions, the backward pass and the optimizer step, and makes the model follow its
partitions (`_publish`). The rest, banks, α gradient, buffers, losses and reductions over ranks, is here once.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor, nn

from avil_fast import randomness
from avil_fast.engine.base import Engine
from avil_fast.engine.buffers import Buffers
from avil_fast.engine.clock import Clock
from avil_fast.engine.delta_groups import DeltaGroups
from avil_fast.engine.evaluation import Evaluator, require_examples, require_rows, require_weight
from avil_fast.engine.frozen import Frozen
from avil_fast.engine.group import Shard
from avil_fast.engine.losses import Losses
from avil_fast.engine.parameters import require_own_memory
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.results import Alpha, Evaluation, Memory, Table, TaskRun
from avil_fast.engine.round_buffers import RoundBuffers, StepBuffers
from avil_fast.engine.settings import EngineSettings
from avil_fast.engine.snapshot_memory import SnapshotMemory
from avil_fast.randomness import States, derive_seed
from avil_fast.tasks.batch_sharding import Parts, Share, to_device
from avil_fast.tasks.task import Batch, Task

Item = TypeVar("Item")


class PartitionedEngine(Engine):
    """Deltas, α and evaluation over partitions of shared parameters.

    Memory beyond plain training: 4N/R bytes for the base and n·e·N/R for the bank on each of R ranks, N
    trainable shared parameters, e bytes per delta element.

    Args:
        model: whose buffers take part in the rounds.
        tasks: at most 64.
        target: index of the target.
        settings: of the run.
        ranks: this process among those that train together.
        device: of the model and the batches.
    """

    _deltas: DeltaGroups
    """Their groups are in the order of `groups`."""

    _dots_of_each = False
    """Dots are taken of every dev batch's gradient, and not of their sum: where hundreds of batches in low
    precision come to a stop, or where adding up takes memory of its own."""

    def __init__(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        target: int,
        settings: EngineSettings,
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        require_own_memory(model)
        self.model = model
        self.tasks = list(tasks)
        self.target = target
        self.device = device
        self.ranks = ranks
        self.share = Share(ranks.rank, ranks.size, settings.parts)
        self._without_cudnn = _refused_by_cudnn(model, device)
        self._modes = [(module, module.training) for module in model.modules()]
        self._model_buffers = Buffers(model)
        self._frozen = Frozen(model)
        for tensor in (*model.parameters(), *self._model_buffers.placed()):
            ranks.from_first_(tensor.detach())
        self._evaluator = Evaluator(self._call, ranks, device)
        self._buffers = RoundBuffers(self._model_buffers, ranks.mean_)
        self._step_buffers = StepBuffers(self._model_buffers)
        self._clock = Clock(torch.cuda.synchronize if device.type == "cuda" else lambda: None)
        self._open = False
        """A round's base and deltas count; otherwise θ is all there is."""
        self._current: int | None = None
        """The task whose turn it is."""
        self._loss_of: int | None = None
        """The task whose loss is trained in its turn, and so whose head is."""
        self._seed = 0
        self._outside: States = {}
        """The random numbers outside of the task that trains."""
        self._losses = Losses(len(self.tasks), device)
        self._scope = contextlib.ExitStack()
        self._snapshot_memory = SnapshotMemory()

    def _make_deltas(
        self, shared: Sequence[Sequence[Shard]], scaled_head: Sequence[Shard], settings: EngineSettings
    ) -> None:
        """Allocate bases and banks.

        Args:
            shared: partitions of the shared parameters by group.
            scaled_head: partitions of the target's head, if α scales it; else none.
        """
        n = len(self.tasks) if settings.keeps_deltas else 0
        try:
            self._deltas = DeltaGroups(n, self.target, shared, scaled_head, settings.deltas, self.device)
        except BaseException:
            self.abandon()  # the model is as it was
            raise

    @abstractmethod
    def _call(self, function: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> Tensor:
        """function(model, batch), a task's loss or metric."""

    @abstractmethod
    def _begin_gradient(self) -> None:
        """Make ready for the backward passes of one gradient; no parameter keeps an older one."""

    @abstractmethod
    def _backward(self, loss: Tensor, last: bool) -> None:
        """Add ∂loss to the gradients, which are averaged over ranks when the `last` pass of a gradient is done."""

    @abstractmethod
    def _step(self, lr_scale: float) -> Tensor:
        """One optimizer step of the shared parameters and of the head whose loss is trained.

        Returns:
            Whether it was rejected, as the gradient is not finite; a bool on the device, the same on all ranks.
        """

    @abstractmethod
    def _publish(self) -> None:
        """Make the model's parameters those of the partitions, whose masters have been written."""

    def begin_round(self) -> None:
        with self._clock.part("delta_ops"):
            self._deltas.take_base()
            self._deltas.clear()
            self._buffers.begin_round()
            self._open = True

    def begin_task(self, task: int, seed: int) -> None:
        self._current, self._loss_of, self._seed = task, task, seed
        self._losses.begin()
        self._clock.enter("task_training")
        self._scope.callback(self._clock.leave)
        self._outside = randomness.states(self.device)
        self._scope.callback(lambda: randomness.restore(self._outside, self.device))
        # Every rank draws dropout of its own: they see other examples.
        randomness.seed_all(seed if self.ranks.first else derive_seed(seed, self.ranks.rank))
        self.model.train()

    def train_step(
        self, batch: Batch, *, task: int | None = None, loss_weight: float = 1.0, lr_scale: float = 1.0
    ) -> Tensor:
        turn = self._training()
        self._loss_of = turn if task is None else task
        owner = self.tasks[self._loss_of]
        parts = self.share.cut(batch)
        require_weight(parts, owner)
        self._begin_gradient()
        self._step_buffers.keep()
        mean = torch.zeros((), device=self.device)
        for part, last in _with_last(parts):
            loss = self._evaluator.loss(owner, part.batch)
            fraction = part.weight / part.total
            factor = loss_weight * fraction * self.ranks.size
            one = loss.detach() * 0 + 1  # NaN for a loss that is not finite: then no gradient is, on any rank
            self._backward((loss if factor == 1.0 else loss * factor) * one, last)
            mean = mean + loss.detach() * fraction
        rejected = self._step(lr_scale)
        self._step_buffers.put_back(rejected)
        self._losses.add(self._loss_of, mean, rejected)
        return mean * self.ranks.size

    def end_task(self, *, restore: bool = True) -> TaskRun:
        task = self._training()
        self._losses.synchronize()
        losses = self._losses.stacked().double()
        if len(losses):
            self.ranks.sum_(losses)
        self._scope.close()
        with self._clock.part("delta_ops"):
            if not restore:
                norm = self._deltas.distance()
                self._deltas.take_base()
                self._buffers.agree()
                self._open = False
            else:
                norm = self._deltas.capture_(task)
                self._buffers.end_task(task == self.target)
                self._publish()
        self._current = self._loss_of = None
        finite = losses[losses.isfinite()]
        return TaskRun(float(finite.mean()), self._over_ranks(norm), losses.tolist())

    def rejected_in_a_row(self, *, wait: bool = False) -> Sequence[int]:
        if wait:
            self._losses.synchronize()
        return self._losses.in_a_row

    def target_gradient(self, batches: Iterable[Batch]) -> tuple[Table, float]:
        task = self.tasks[self.target]
        cudnn = torch.backends.cudnn.flags(enabled=False) if self._without_cudnn else contextlib.nullcontext()
        with self._clock.part("alpha_phase"), cudnn:
            self.model.eval()
            self._begin_gradient()
            loss_sum, weight = torch.zeros((), dtype=torch.float64, device=self.device), 0
            dots = torch.zeros(len(self.groups), len(self.tasks), dtype=torch.float64)
            for parts, last in _with_last(self._cut(task, batches)):
                part = parts[0]
                loss = self._evaluator.loss(task, part.batch)
                self._backward(loss * (part.weight * self.ranks.size), last or self._dots_of_each)
                loss_sum += loss.detach() * part.weight
                weight += part.total
                if last or self._dots_of_each:
                    dots += self._dots()
                if self._dots_of_each and not last:
                    self._begin_gradient()
            require_examples(weight, task, "dev")
            sums = torch.tensor([*dots.flatten(), float(loss_sum)], dtype=torch.float64, device=self.device)
            means = self.ranks.sum_(sums) / weight
            return means[:-1].view(dots.shape).tolist(), float(means[-1])

    def _dots(self) -> Tensor:
        with self._clock.part("delta_ops"):
            return self._deltas.dots()

    def apply(self, alpha: Alpha) -> None:
        table = torch.tensor(alpha, dtype=torch.float64).expand(len(self.groups), len(self.tasks)).tolist()
        with self._clock.part("delta_ops"):
            self._buffers.merge()
            self._deltas.weighted_sum_(table)
            self._publish()

    def merge(self, alpha: Alpha) -> None:
        self.apply(alpha)
        self._open = False  # the next round takes its base anew

    def evaluate(self, task: int, batches: Iterable[Batch]) -> Evaluation:
        with self._clock.part("evaluation"):
            self.model.eval()
            return self._evaluator.evaluate(self.tasks[task], self._cut(self.tasks[task], batches))

    def fetch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        iterator = iter(batches)
        while True:
            with self._clock.part("data"):
                try:
                    batch = to_device(next(iterator), self.device)
                except StopIteration:
                    return
            yield batch

    def gram(self) -> list[list[float]]:
        with self._clock.part("delta_ops"):
            return self.ranks.sum_(self._deltas.gram().to(self.device)).tolist()

    def memory(self) -> Memory:
        return self._deltas.memory()

    def spend(self, part: str) -> AbstractContextManager[None]:
        return self._clock.part(part)

    def take_seconds(self) -> dict[str, float]:
        return self._clock.take()

    def close(self) -> None:
        self._scope.close()
        for module, training in self._modes:
            module.training = training

    def _cut(self, task: Task, batches: Iterable[Batch]) -> Iterator[Parts]:
        """This rank's part of every batch of a dev or test set, in one piece."""
        share = self.share.in_one_part()
        for batch in self.fetch(batches):
            parts = share.cut(batch)
            require_rows(parts, task)
            yield parts

    def _training(self) -> int:
        if self._current is None:
            raise RuntimeError("no task is training; call begin_task first")
        return self._current

    def _over_ranks(self, norm: float) -> float:
        """The norm of a vector of which every rank has a part of this norm."""
        if self.ranks.size == 1:
            return norm
        square = torch.tensor(norm**2, dtype=torch.float64, device=self.device)
        return float(self.ranks.sum_(square).sqrt())


def _refused_by_cudnn(model: nn.Module, device: torch.device) -> bool:
    """Whether cuDNN refuses the α phase's backward pass: it has none of an RNN, a GRU or an LSTM in eval mode."""
    return device.type == "cuda" and any(isinstance(module, nn.RNNBase) for module in model.modules())


def _with_last(items: Iterable[Item]) -> Iterator[tuple[Item, bool]]:
    """Each item, and whether it is the last."""
    iterator = iter(items)
    with contextlib.suppress(StopIteration):
        item = next(iterator)
        for following in iterator:
            yield item, False
            item = following
        yield item, True
