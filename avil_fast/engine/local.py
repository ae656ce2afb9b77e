"""The engine for one process: plain PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from avil_fast.deltas.base import DeltaBank
from avil_fast.deltas.codec import CODECS, FP64, Codec
from avil_fast.engine.banks import make_bank
from avil_fast.engine.base import Engine, Evaluation, TaskRun
from avil_fast.engine.buffers import RoundBuffers
from avil_fast.engine.clock import Clock
from avil_fast.engine.optimizer import TaskOptimizer
from avil_fast.engine.parameters import device_of, flatten
from avil_fast.engine.partition import Partition
from avil_fast.errors import AvilError
from avil_fast.tasks.batches import batch_size_of, to_device
from avil_fast.tasks.task import Batch, Task

if TYPE_CHECKING:
    from avil_fast.config import DeltasConfig, OptimizerConfig


class LocalEngine(Engine):
    """Holds the model whole on one device.

    Memory beyond plain training: 4N bytes for the base and n·e·N for the bank, N trainable shared
    parameters, e bytes per delta element; with `moments="per_task"` also one set of moments per task.

    Args:
        model: any module; its parameters become views of flat partitions until `close`.
        tasks: at most 64.
        target: index of the target.
        optimizer: the tasks' optimizer.
        deltas: how the bank stores deltas, and where.
        scale_target_head: the target's head takes part in δ of the target, and so in α.
    """

    def __init__(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        target: int,
        optimizer: OptimizerConfig,
        deltas: DeltasConfig,
        *,
        scale_target_head: bool = False,
    ) -> None:
        self.model = model
        self.tasks = list(tasks)
        self.target = target
        self.device = device_of(model)
        self._was_training = model.training
        self._parameters = flatten(model, tasks)
        self._shared = self._parameters.shared
        self._scaled_head = self._parameters.heads[target] if scale_target_head else []
        self._base = [torch.empty_like(p.master.detach()) for p in self._shared]
        self._head_base = [torch.empty_like(p.master.detach()) for p in self._scaled_head]
        codec = self._codec(deltas.dtype)
        self._bank = self._allocate(len(tasks), self._shared, codec, deltas.device)
        self._head_bank = self._allocate(1, self._scaled_head, codec, deltas.device)
        self._buffers = RoundBuffers(model)
        self._optimizers = [TaskOptimizer([*self._shared, *head], optimizer) for head in self._parameters.heads]
        self._clock = Clock(torch.cuda.synchronize if self.device.type == "cuda" else lambda: None)
        self._current: int | None = None
        self._losses: list[Tensor] = []
        self._scope = contextlib.ExitStack()

    def begin_round(self) -> None:
        with self._clock.part("delta_ops"):
            self._take_base()
            self._bank.clear()
            self._head_bank.clear()
            self._buffers.begin_round()

    def begin_task(self, task: int, seed: int) -> None:
        self._current = task
        self._losses = []
        self._clock.enter("task_training")
        self._scope.callback(self._clock.leave)
        devices = [self.device] if self.device.type == "cuda" else []
        self._scope.enter_context(torch.random.fork_rng(devices))
        torch.manual_seed(seed)
        self.model.train()

    def train_step(self, batch: Batch, *, loss_weight: float = 1.0, lr_scale: float = 1.0) -> None:
        task, optimizer = self._training()
        optimizer.zero_grad()
        loss = self._loss(task, batch)
        (loss if loss_weight == 1.0 else loss * loss_weight).backward()  # type: ignore[no-untyped-call]
        optimizer.step(lr_scale)
        self._losses.append(loss.detach())
        if self.device.type == "cpu":  # where looking at the loss does not make a device wait
            self._check_losses()

    def end_task(self, *, restore: bool = True) -> TaskRun:
        _, optimizer = self._training()
        assert self._current is not None
        self._check_losses()
        optimizer.end_task()
        self._scope.close()
        loss = float(torch.stack(self._losses).double().mean()) if self._losses else float("nan")
        with self._clock.part("delta_ops"):
            if not restore:
                norm = self._distance_from_base()
                self._take_base()
            else:
                is_target = self._current == self.target
                norm = _capture_(self._bank, self._current, self._shared, self._base)
                self._buffers.end_task(is_target)
                if is_target and self._scaled_head:
                    _capture_(self._head_bank, 0, self._scaled_head, self._head_base)
        self._current = None
        return TaskRun(loss, norm)

    def target_gradient(self, batches: Iterable[Batch]) -> tuple[list[float], float]:
        task = self.tasks[self.target]
        with self._clock.part("alpha_phase"):
            self.model.eval()
            for partition in (*self._shared, *self._scaled_head):
                partition.zero_grad()
            loss_sum, examples = torch.zeros((), dtype=torch.float64, device=self.device), 0
            for batch in self.fetch(batches):
                size = batch_size_of(batch)
                loss = self._loss(task, batch) * size
                loss.backward()  # type: ignore[no-untyped-call]
                loss_sum += loss.detach()
                examples += size
            _require_examples(examples, task, "dev")
            with self._clock.part("delta_ops"):
                dots = self._bank.dots([p.grad for p in self._shared])
                if self._scaled_head:
                    dots[self.target] += self._head_bank.dots([p.grad for p in self._scaled_head])[0]
            return [dot / examples for dot in dots], float(loss_sum) / examples

    def apply(self, alpha: Sequence[float]) -> None:
        with self._clock.part("delta_ops"):
            self._buffers.merge()
            _weighted_sum_(self._bank, alpha, self._shared, self._base)
            if self._scaled_head:
                _weighted_sum_(self._head_bank, [alpha[self.target]], self._scaled_head, self._head_base)

    def merge(self, alpha: Sequence[float]) -> None:
        self.apply(alpha)
        with self._clock.part("delta_ops"):
            self._take_base()

    def evaluate(self, task: int, batches: Iterable[Batch]) -> Evaluation:
        what = self.tasks[task]
        with self._clock.part("evaluation"), torch.no_grad():
            self.model.eval()
            loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
            metric_sum = torch.zeros_like(loss_sum)
            examples = 0
            for batch in self.fetch(batches):
                size = batch_size_of(batch)
                loss_sum += self._loss(what, batch).double() * size
                if what.metric is not None:
                    metric_sum += _metric(what, self.model, batch, size).double().sum()
                examples += size
            _require_examples(examples, what, "evaluation")
            metric = float(metric_sum) / examples if what.metric is not None else None
            return Evaluation(float(loss_sum) / examples, metric)

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
            return self._bank.gram()

    def snapshot(self) -> Any:
        partitions = [partition.master.detach().cpu().clone() for partition in self._parameters.all]
        return partitions, [buffer.cpu().clone() for buffer in self.model.buffers()]

    def restore(self, snapshot: Any) -> None:
        partitions, buffers = snapshot
        with torch.no_grad():
            for partition, saved in zip(self._parameters.all, partitions, strict=True):
                partition.master.copy_(saved)
                partition.push()
            for buffer, saved in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(saved)

    def take_seconds(self) -> dict[str, float]:
        return self._clock.take()

    def close(self) -> None:
        self._scope.close()
        for partition in self._parameters.all:
            partition.release()
        self.model.train(self._was_training)

    def _allocate(self, n: int, partitions: Sequence[Partition], codec: Codec, where: str) -> DeltaBank:
        try:
            return make_bank(n, [partition.numel for partition in partitions], codec, self.device, where)
        except BaseException:  # the model is as it was
            for partition in self._parameters.all:
                partition.release()
            raise

    def _codec(self, name: str) -> Codec:
        if name == "fp32" and any(base.dtype == torch.float64 for base in self._base):
            return FP64
        return CODECS[name]

    def _training(self) -> tuple[Task, TaskOptimizer]:
        if self._current is None:
            raise RuntimeError("no task is training; call begin_task first")
        return self.tasks[self._current], self._optimizers[self._current]

    def _loss(self, task: Task, batch: Batch) -> Tensor:
        try:
            loss = task.loss(self.model, batch)
        except IndexError as error:  # what torch raises for a class label that is out of range
            raise AvilError(
                f"task {task.name!r}: its loss failed: {error}; check that labels lie within the head's outputs"
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

    def _check_losses(self) -> None:
        """Refuse a loss that is not finite. θ's base is untouched by the task, so nothing is lost."""
        fresh = self._losses[-1:] if self.device.type == "cpu" else self._losses
        if fresh and not bool(torch.isfinite(torch.stack(fresh)).all()):
            step = next(i for i, loss in enumerate(self._losses) if not bool(loss.isfinite()))
            task, _ = self._training()
            raise AvilError(
                f"task {task.name!r}: its loss is {float(self._losses[step])} at step {step + 1} of this round; "
                f"lower optimizer.lr or check the task's data"
            )

    def _distance_from_base(self) -> float:
        masters = [partition.master.detach() for partition in self._shared]
        differences = [(master - base).double() for master, base in zip(masters, self._base, strict=True)]
        return float(torch.stack([d.square().sum() for d in differences]).sum().sqrt())

    def _take_base(self) -> None:
        for partition, base in zip(
            (*self._shared, *self._scaled_head), (*self._base, *self._head_base), strict=True
        ):
            base.copy_(partition.master.detach())


def _capture_(bank: DeltaBank, slot: int, partitions: Sequence[Partition], base: Sequence[Tensor]) -> float:
    """Put the partitions' delta in the bank and `base` back into them; ‖δ‖."""
    norm = bank.capture_(slot, _masters(partitions), base, _low(partitions))
    _push_mixed(partitions)
    return norm


def _weighted_sum_(
    bank: DeltaBank, alpha: Sequence[float], partitions: Sequence[Partition], base: Sequence[Tensor]
) -> None:
    """Set the partitions to base + Σ α_i δ_i."""
    bank.weighted_sum_(_masters(partitions), base, alpha, _low(partitions))
    _push_mixed(partitions)


def _masters(partitions: Sequence[Partition]) -> list[Tensor]:
    return [partition.master.detach() for partition in partitions]


def _low(partitions: Sequence[Partition]) -> list[Tensor]:
    """The low-precision copies, to be written in the same pass; none where only some partitions have one."""
    copies = [low for partition in partitions for low in partition.low]
    return copies if len(copies) == len(partitions) else []


def _push_mixed(partitions: Sequence[Partition]) -> None:
    if not _low(partitions):
        for partition in partitions:
            partition.push()


def _metric(task: Task, model: nn.Module, batch: Batch, size: int) -> Tensor:
    assert task.metric is not None
    values = task.metric(model, batch)
    if not isinstance(values, Tensor) or tuple(values.shape) != (size,):
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise AvilError(
            f"task {task.name!r}: its metric returned {got}, but must return one value per "
            f"example, shape ({size},)"
        )
    return values


def _require_examples(examples: int, task: Task, split: str) -> None:
    if examples == 0:
        raise AvilError(f"task {task.name!r}: its {split} set yields no batch; give it at least one example")
