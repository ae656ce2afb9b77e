"""The engine for one process: plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from avil_fast.engine.base import TaskRun
from avil_fast.engine.buffers import saved_buffers
from avil_fast.engine.optimizer import TaskOptimizer
from avil_fast.engine.parameters import device_of, flatten
from avil_fast.engine.partition import Partition
from avil_fast.engine.partitioned import PartitionedEngine, Shard, low_of
from avil_fast.engine.ranks import ALONE, Ranks
from avil_fast.tasks.task import Batch, Task

if TYPE_CHECKING:
    from avil_fast.config import DeltasConfig, OptimizerConfig


ROW = 64
"""Elements: every rank's slice of a partition starts at a multiple, so that kernels read it 16 bytes at a time."""


class LocalEngine(PartitionedEngine):
    """Holds the model whole on one device; with `moments="per_task"` also one set of moments per task.

    Args:
        model: any module; its parameters become views of flat partitions until `close`.
        tasks: at most 64.
        target: index of the target.
        optimizer: the tasks' optimizer.
        deltas: how the bank stores deltas.
        scale_target_head: the target's head takes part in δ of the target, and so in α.
        parts: pieces in which a training batch is taken (gradient accumulation).
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
        parts: int = 1,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(model, tasks, target, device_of(model), ranks, parts)
        self._parameters = flatten(model, tasks, multiple=ROW * ranks.size if ranks.size > 1 else 1)
        self._shared = self._shards(self._parameters.shared)
        self._scaled_head = self._shards(self._parameters.heads[target]) if scale_target_head else []
        self._coarse = any(partition.low for partition in self._parameters.all)
        self._optimizers = [
            TaskOptimizer([*self._parameters.shared, *head], optimizer) for head in self._parameters.heads
        ]
        self._make_banks(deltas)

    def _shards(self, partitions: Sequence[Partition]) -> Sequence[Shard]:
        """What this process owns of the partitions: all."""
        return partitions

    def _used(self) -> list[Partition]:
        """The partitions of the task that trains, or in the α phase of the target."""
        task = self.target if self._current is None else self._current
        return [*self._parameters.shared, *self._parameters.heads[task]]

    def _call(self, function: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> Tensor:
        return function(self.model, batch)

    def _begin_gradient(self) -> None:
        for partition in self._used():
            partition.zero_grad()

    def _backward(self, loss: Tensor, last: bool) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def _step(self, lr_scale: float) -> None:
        self._optimizers[self._training()].step(lr_scale)

    def _publish(self) -> None:
        for shards, partitions in (
            (self._shared, self._parameters.shared),
            (self._scaled_head, self._parameters.heads[self.target]),
        ):
            if shards and not low_of(shards):
                for partition in partitions:
                    partition.push()

    def end_task(self, *, restore: bool = True) -> TaskRun:
        self._optimizers[self._training()].end_task()
        return super().end_task(restore=restore)

    def snapshot(self) -> Any:
        partitions = [partition.master.cpu().clone() for partition in self._parameters.all]
        return partitions, [buffer.cpu().clone() for buffer in self.model.buffers()]

    def restore(self, snapshot: Any) -> None:
        partitions, buffers = snapshot
        for partition, saved in zip(self._parameters.all, partitions, strict=True):
            partition.master.copy_(saved)
            partition.push()
        for buffer, saved in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(saved)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from ((name, parameter.detach()) for name, parameter in self.model.named_parameters())
        yield from saved_buffers(self.model)

    def close(self) -> None:
        super().close()
        for partition in self._parameters.all:
            partition.release()
