"""The engine for one process: plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from avil_fast.engine.buffers import saved_buffers
from avil_fast.engine.group import Shard, low_of
from avil_fast.engine.optimizer import TaskOptimizer
from avil_fast.engine.parameters import device_of, flatten, trainable
from avil_fast.engine.partition import Partition
from avil_fast.engine.ranks import ALONE, Ranks
from avil_fast.engine.results import TaskRun
from avil_fast.engine.saved import SavedEngine
from avil_fast.engine.settings import EngineSettings
from avil_fast.engine.state import Placement, as_table
from avil_fast.tasks.task import Batch, Task

ROW = 64
"""Elements: every rank's slice of a partition starts at a multiple, so that kernels read it 16 bytes at a time."""


class LocalEngine(SavedEngine):
    """Holds the model whole on one device; with `moments="per_task"` also one set of moments per task.

    Args:
        model: any module; its parameters become views of flat partitions until `close`.
        tasks: at most 64.
        target: index of the target.
        settings: of the run.
        ranks: this process among those that train together; here it is alone.
    """

    name = "local"

    def __init__(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        target: int,
        settings: EngineSettings,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(model, tasks, target, settings, ranks, device_of(model))
        self._parameters = flatten(model, tasks, ROW * ranks.size if ranks.size > 1 else 1, settings.granularity)
        groups = self._parameters.groups
        self.groups = {name: sum(own.elements for own in partitions) for name, partitions in groups.items()}
        self._all, self._owners = self._shards(self._parameters.all), self._parameters.owners
        self._dots_of_each = any(partition.low for partition in self._parameters.all)
        self._optimizer = TaskOptimizer(self._parameters.shared, self._parameters.heads, settings.optimizer)
        scaled_head = self._shards(self._parameters.heads[target]) if settings.scale_target_head else []
        self._make_deltas([self._shards(partitions) for partitions in groups.values()], scaled_head, settings)

    def _shards(self, partitions: Sequence[Partition]) -> Sequence[Shard]:
        """What this process owns of the partitions: all."""
        return partitions

    @property
    def _combined(self) -> list[list[Partition]]:
        """The partitions that have deltas, by group; those of the target's head come last, if α scales it."""
        scaled = [self._parameters.heads[self.target]] if self._deltas.scales_head else []
        return [*self._parameters.groups.values(), *scaled]

    def _used(self) -> list[Partition]:
        """The partitions that the loss which is trained depends on; in the α phase it is the target's."""
        task = self.target if self._loss_of is None else self._loss_of
        return [*self._parameters.shared, *self._parameters.heads[task]]

    def _call(self, function: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> Tensor:
        return function(self.model, batch)

    def _begin_gradient(self) -> None:
        for partition in self._used():
            partition.zero_grad()

    def _backward(self, loss: Tensor, last: bool) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def _step(self, lr_scale: float) -> Tensor:
        assert self._loss_of is not None
        return self._optimizer.step(self._training(), self._loss_of, lr_scale)

    def _publish(self) -> None:
        for partitions in self._combined:
            if not low_of(partitions):  # otherwise they were written along with the masters
                for partition in partitions:
                    partition.write_low_precision()

    def end_task(self, *, restore: bool = True) -> TaskRun:
        self._optimizer.end_task()
        return super().end_task(restore=restore)

    def _publish_all(self) -> None:
        for partition in self._parameters.all:
            partition.write_low_precision()

    def placement(self) -> Placement:
        parameters = trainable(self.model)
        index = {id(parameter): i for i, parameter in enumerate(parameters.values())}
        slices: list[tuple[int, ...]] = []
        for k, (shard, partition) in enumerate(zip(self._all, self._parameters.all, strict=True)):
            numel = shard.master.numel()
            first = self.ranks.rank * numel  # of this rank's part of the partition
            for parameter, at in partition.slices():
                start, stop = max(first, at), min(first + numel, at + parameter.numel())
                if start < stop:
                    slices.append((index[id(parameter)], start - at, stop - at, k, start - first))
        shapes = {name: list(parameter.shape) for name, parameter in parameters.items()}
        return Placement(shapes, [shard.master.numel() for shard in self._all], as_table(slices))

    def _moments(self, task: int) -> dict[int, dict[str, Any]]:
        found = zip(self._of_task(task), self._optimizer.moments(task), strict=True)
        return {k: {name: self._part(value) for name, value in state.items()} for k, state in found if state}

    def _make_moments(self, task: int, names: Sequence[str], steps: Mapping[str, int | None]) -> None:
        self._optimizer.make_moments(task, names, steps)

    def _forget_moments(self) -> None:
        self._optimizer.forget()

    def _of_task(self, task: int) -> list[int]:
        """The partitions that a task trains, as its optimizer has them."""
        return [k for k, owner in enumerate(self._owners) if owner in (None, task)]

    def _part(self, value: Any) -> Any:
        """What this process owns of an optimizer's value for a partition: all."""
        return value

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from ((name, parameter.detach()) for name, parameter in self.model.named_parameters())
        yield from saved_buffers(self.model)

    def close(self) -> None:
        super().close()
        for partition in self._parameters.all:
            partition.release()
