"""A round on flat partitions: all of the contract that does not depend on where they lie.

A subclass brings the partitions, the backward pass and the optimizer step, and makes the model follow its
partitions (`_publish`). The rest, banks, α gradient, buffers, losses and reductions over ranks, is here once.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor, nn

from avil_fast import randomness
from avil_fast.deltas.base import DeltaBank
from avil_fast.deltas.codec import CODECS, FP64, Codec
from avil_fast.engine.banks import make_bank
from avil_fast.engine.base import Engine, Evaluation, Memory, TaskRun
from avil_fast.engine.buffers import RoundBuffers
from avil_fast.engine.clock import Clock
from avil_fast.engine.ranks import Ranks
from avil_fast.errors import AvilError
from avil_fast.randomness import States
from avil_fast.tasks.batches import derive_seed, to_device
from avil_fast.tasks.share import Parts, Share
from avil_fast.tasks.task import Batch, Scorer, Task

if TYPE_CHECKING:
    from avil_fast.config import DeltasConfig

Item = TypeVar("Item")


class Shard(Protocol):
    """One partition: what this rank owns of some parameters, as one flat tensor."""

    @property
    def master(self) -> Tensor:
        """[numel] fp32 (fp64 for a model in fp64), without a graph; the values that are trained."""

    @property
    def low(self) -> Sequence[Tensor]:
        """[numel] bf16 or fp16 copies to be written along with `master`; none where `_publish` makes them."""

    @property
    def grad(self) -> Tensor:
        """[numel], fp32 or bf16: the gradient of the last backward passes, summed over ranks."""


class PartitionedEngine(Engine):
    """Deltas, α and evaluation over partitions of shared parameters.

    Memory beyond plain training: 4N/R bytes for the base and n·e·N/R for the bank on each of R ranks, N
    trainable shared parameters, e bytes per delta element.

    Args:
        model: whose buffers take part in the rounds.
        tasks: at most 64.
        target: index of the target.
        device: of the model and the batches.
        ranks: this process among those that train together.
        parts: pieces in which a rank takes its share of a training batch.
    """

    _shared: Sequence[Shard]
    """Partitions of the parameters that make up θ and δ."""
    _scaled_head: Sequence[Shard]
    """Partitions of the target's head, if α scales it; else none."""

    _dots_of_each = False
    """Dots are taken of every dev batch's gradient, and not of their sum: where hundreds of batches in low
    precision come to a stop, or where adding up takes memory of its own."""

    def __init__(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        target: int,
        device: torch.device,
        ranks: Ranks,
        parts: int = 1,
    ) -> None:
        self.model = model
        self.tasks = list(tasks)
        self.target = target
        self.device = device
        self.ranks = ranks
        self.share = Share(ranks.rank, ranks.size, parts)
        self._was_training = model.training
        for tensor in (*model.parameters(), *model.buffers()):
            ranks.from_first_(tensor.detach())
        self._buffers = RoundBuffers(model, ranks.mean_)
        self._clock = Clock(torch.cuda.synchronize if device.type == "cuda" else lambda: None)
        self._open = False
        """A round's base and deltas count; otherwise θ is all there is."""
        self._current: int | None = None
        self._seed = 0
        self._outside: States = {}
        """The random numbers outside of the task that trains."""
        self._losses: list[Tensor] = []
        self._scope = contextlib.ExitStack()

    def _make_banks(self, deltas: DeltasConfig) -> None:
        """Allocate bases and banks for the partitions, once those are there."""
        self._base = [torch.empty_like(shard.master) for shard in self._shared]
        self._head_base = [torch.empty_like(shard.master) for shard in self._scaled_head]
        exact = deltas.dtype == "fp32" and any(base.dtype == torch.float64 for base in self._base)
        codec = FP64 if exact else CODECS[deltas.dtype]
        try:
            self._bank = self._bank_of(len(self.tasks), self._base, codec, deltas.device)
            self._head_bank = self._bank_of(1, self._head_base, codec, deltas.device)
        except BaseException:
            self.abandon()  # the model is as it was
            raise

    def _bank_of(self, n: int, bases: Sequence[Tensor], codec: Codec, where: str) -> DeltaBank:
        """A bank of n deltas beside the masters, which ZeRO may keep in CPU memory."""
        device = bases[0].device if bases else self.device
        return make_bank(n, [base.numel() for base in bases], codec, device, where)

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
    def _step(self, lr_scale: float) -> None:
        """One optimizer step of the current task."""

    @abstractmethod
    def _publish(self) -> None:
        """Make the model's parameters those of the partitions, whose masters have been written."""

    def begin_round(self) -> None:
        with self._clock.part("delta_ops"):
            self._take_base()
            self._bank.clear()
            self._head_bank.clear()
            self._buffers.begin_round()
            self._open = True

    def begin_task(self, task: int, seed: int) -> None:
        self._current, self._seed = task, seed
        self._losses = []
        self._clock.enter("task_training")
        self._scope.callback(self._clock.leave)
        self._outside = randomness.states(self.device)
        self._scope.callback(lambda: randomness.restore(self._outside, self.device))
        # Every rank draws dropout of its own: they see other examples.
        randomness.seed_all(seed if self.ranks.first else derive_seed(seed, self.ranks.rank))
        self.model.train()

    def train_step(self, batch: Batch, *, loss_weight: float = 1.0, lr_scale: float = 1.0) -> None:
        task = self.tasks[self._training()]
        parts = self.share.cut(batch)
        self._begin_gradient()
        mean = torch.zeros((), device=self.device)
        for part, last in _with_last(parts):
            loss = self._loss(task, part.batch)
            fraction = part.weight / part.total
            factor = loss_weight * fraction * self.ranks.size
            self._backward(loss if factor == 1.0 else loss * factor, last)
            mean = mean + loss.detach() * fraction
        self._step(lr_scale)
        self._losses.append(mean)
        if self.ranks.size == 1 and self.device.type == "cpu" and not bool(mean.isfinite()):
            self._require_finite(torch.stack(self._losses))  # at once where looking makes no device wait

    def end_task(self, *, restore: bool = True) -> TaskRun:
        task = self._training()
        losses = self.ranks.sum_(torch.stack(self._losses).double()) if self._losses else torch.empty(0)
        self._require_finite(losses)
        self._scope.close()
        with self._clock.part("delta_ops"):
            if not restore:
                norm = self._distance_from_base()
                self._take_base()
                self._buffers.agree()
                self._open = False
            else:
                is_target = task == self.target
                norm = _capture_(self._bank, task, self._shared, self._base)
                self._buffers.end_task(is_target)
                if is_target and self._scaled_head:
                    _capture_(self._head_bank, 0, self._scaled_head, self._head_base)
                self._publish()
        self._current = None
        return TaskRun(float(losses.mean()), self._over_ranks(norm))

    def target_gradient(self, batches: Iterable[Batch]) -> tuple[list[float], float]:
        task = self.tasks[self.target]
        with self._clock.part("alpha_phase"):
            self.model.eval()
            self._begin_gradient()
            loss_sum, weight = torch.zeros((), dtype=torch.float64, device=self.device), 0
            dots = torch.zeros(len(self.tasks), dtype=torch.float64)
            for parts, last in _with_last(self._cut(batches)):
                part = parts[0]
                loss = self._loss(task, part.batch)
                self._backward(loss * (part.weight * self.ranks.size), last or self._dots_of_each)
                loss_sum += loss.detach() * part.weight
                weight += part.total
                if last or self._dots_of_each:
                    dots += self._dots()
                if self._dots_of_each and not last:
                    self._begin_gradient()
            _require_examples(weight, task, "dev")
            sums = torch.tensor([*dots.tolist(), float(loss_sum)], dtype=torch.float64, device=self.device)
            *gradient, loss_mean = (self.ranks.sum_(sums) / weight).tolist()
            return gradient, loss_mean

    def _dots(self) -> Tensor:
        """[n] fp64: ⟨g, δ_i⟩ over this rank's partitions."""
        with self._clock.part("delta_ops"):
            dots = self._bank.dots([shard.grad for shard in self._shared])
            if self._scaled_head:
                dots[self.target] += self._head_bank.dots([shard.grad for shard in self._scaled_head])[0]
        return torch.tensor(dots, dtype=torch.float64)

    def apply(self, alpha: Sequence[float]) -> None:
        with self._clock.part("delta_ops"):
            self._buffers.merge()
            _weighted_sum_(self._bank, alpha, self._shared, self._base)
            if self._scaled_head:
                _weighted_sum_(self._head_bank, [alpha[self.target]], self._scaled_head, self._head_base)
            self._publish()

    def merge(self, alpha: Sequence[float]) -> None:
        self.apply(alpha)
        with self._clock.part("delta_ops"):
            self._take_base()
            self._open = False

    def evaluate(self, task: int, batches: Iterable[Batch]) -> Evaluation:
        what = self.tasks[task]
        with self._clock.part("evaluation"), torch.no_grad():
            self.model.eval()
            sums = torch.zeros(3, dtype=torch.float64, device=self.device)
            weight, rows = 0, []
            for parts in self._cut(batches):
                part = parts[0]
                sums[0] += self._loss(what, part.batch).double() * part.weight
                sums[2] += part.examples
                if isinstance(what.metric, Scorer):
                    rows.append(self._rows(what, what.metric, part.batch)[: part.examples].double().cpu())
                elif what.metric is not None:
                    sums[1] += self._metric(what, part.batch, part.examples).double().sum()
                weight += part.total
            _require_examples(weight, what, "evaluation")
            loss_sum, metric_sum, examples = self.ranks.sum_(sums).tolist()
            loss = loss_sum / weight
            if isinstance(what.metric, Scorer):
                score = what.metric.score(torch.cat(self.ranks.gather(torch.cat(rows))))
                return Evaluation(loss, score, what.metric.higher_is_better)
            return Evaluation(loss, metric_sum / examples if what.metric is not None else None)

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
            gram = torch.tensor(self._bank.gram(), dtype=torch.float64, device=self.device)
            return self.ranks.sum_(gram).tolist()

    def memory(self) -> Memory:
        bases = (*self._base, *self._head_base)
        return Memory(
            base=sum(base.numel() * base.element_size() for base in bases),
            bank=self._bank.nbytes + self._head_bank.nbytes,
        )

    def spend(self, part: str) -> AbstractContextManager[None]:
        return self._clock.part(part)

    def take_seconds(self) -> dict[str, float]:
        return self._clock.take()

    def close(self) -> None:
        self._scope.close()
        self.model.train(self._was_training)

    def _cut(self, batches: Iterable[Batch]) -> Iterator[Parts]:
        """This rank's part of every batch, in one piece."""
        share = self.share.in_one_part()
        return (share.cut(batch) for batch in self.fetch(batches))

    def _training(self) -> int:
        if self._current is None:
            raise RuntimeError("no task is training; call begin_task first")
        return self._current

    def _require_finite(self, losses: Tensor) -> None:
        """Refuse losses of the current task that are not finite. The base is untouched, so nothing is lost."""
        if not bool(losses.isfinite().all()):
            step, name = int((~losses.isfinite()).int().argmax()), self.tasks[self._training()].name
            raise AvilError(
                f"task {name!r}: its loss is {float(losses[step])} at step {step + 1} of this round; "
                f"lower optimizer.lr or check the task's data"
            )

    def _over_ranks(self, norm: float) -> float:
        """The norm of a vector of which every rank has a part of this norm."""
        if self.ranks.size == 1:
            return norm
        square = torch.tensor(norm**2, dtype=torch.float64, device=self.device)
        return float(self.ranks.sum_(square).sqrt())

    def _loss(self, task: Task, batch: Batch) -> Tensor:
        try:
            loss = self._call(task.loss, batch)
        except IndexError as error:  # what torch raises for a class label that is out of range
            raise AvilError(
                f"task {task.name!r}: its loss failed: {error}; check that labels lie within the head's outputs, "
                f"and tokens and positions within the model's"
            ) from error
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise AvilError(f"task {task.name!r}: its loss returned {got}, but must return a scalar tensor")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise AvilError(
                f"task {task.name!r}: its loss does not depend on a trainable parameter; compute it from the "
                f"model's output, without detach() or item()"
            )
        return loss

    def _rows(self, task: Task, scorer: Scorer, batch: Batch) -> Tensor:
        rows = self._call(scorer.predict, batch)
        if not isinstance(rows, Tensor) or rows.dim() != 2:
            got = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
            raise AvilError(
                f"task {task.name!r}: predict() of its metric returned {got}, but must return shape [batch, k]"
            )
        return rows

    def _metric(self, task: Task, batch: Batch, size: int) -> Tensor:
        assert callable(task.metric)
        values = self._call(task.metric, batch)
        if size == 0 and isinstance(values, Tensor):
            return values.new_zeros(1)
        if not isinstance(values, Tensor) or tuple(values.shape) != (size,):
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise AvilError(
                f"task {task.name!r}: its metric returned {got}, but must return one value per "
                f"example, shape ({size},)"
            )
        return values

    def _distance_from_base(self) -> float:
        differences = [
            (shard.master - base).double().square().sum()
            for shard, base in zip(self._shared, self._base, strict=True)
        ]
        return float(torch.stack(differences).sum().sqrt())

    def _take_base(self) -> None:
        for shard, base in zip((*self._shared, *self._scaled_head), (*self._base, *self._head_base), strict=True):
            base.copy_(shard.master)


def _capture_(bank: DeltaBank, slot: int, shards: Sequence[Shard], base: Sequence[Tensor]) -> float:
    """Put the partitions' delta in the bank and `base` back into them; ‖δ‖."""
    return bank.capture_(slot, [shard.master for shard in shards], base, low_of(shards))


def _weighted_sum_(
    bank: DeltaBank, alpha: Sequence[float], shards: Sequence[Shard], base: Sequence[Tensor]
) -> None:
    """Set the partitions to base + Σ α_i δ_i."""
    bank.weighted_sum_([shard.master for shard in shards], base, alpha, low_of(shards))


def low_of(shards: Sequence[Shard]) -> list[Tensor]:
    """The low-precision copies, to be written in the same pass; none where only some partitions have one."""
    copies = [low for shard in shards for low in shard.low]
    return copies if len(copies) == len(shards) else []


def _with_last(items: Iterable[Item]) -> Iterator[tuple[Item, bool]]:
    """Each item, and whether it is the last."""
    iterator = iter(items)
    with contextlib.suppress(StopIteration):
        item = next(iterator)
        for following in iterator:
            yield item, False
            item = following
        yield item, True


def _require_examples(examples: int, task: Task, split: str) -> None:
    if examples == 0:
        raise AvilError(f"task {task.name!r}: its {split} set yields no batch; give it at least one example")
