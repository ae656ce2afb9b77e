"""The engine for many ranks on DeepSpeed's ZeRO, stages 1 to 3.

Task training is DeepSpeed's own: its backward pass, its reductions, its `step`. In between, the masters that
ZeRO steps are written like any partition, and ZeRO casts and gathers them. α gradients are read off its
gradient shards before `step`, which then, with an optimizer that steps nothing, publishes what was written
(shared parameters) and forgets the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from avil_fast.engine.buffers import saved_buffers
from avil_fast.engine.parameters import assign, grouped, trainable
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.results import TaskRun
from avil_fast.engine.saved import SavedEngine
from avil_fast.engine.settings import EngineSettings
from avil_fast.engine.state import Placement, as_table
from avil_fast.engine.zero import model_access, optimizer, setup, shards
from avil_fast.engine.zero.config import ZeroConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.task import Batch, Task


class Caller(nn.Module):
    """Runs any function of the model as a module's forward pass, where ZeRO's hooks sit."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> Tensor:
        return function(self.model, batch)


class ZeroEngine(SavedEngine):
    """Shards the model, the optimizer's state, the base and the bank over the ranks.

    Args:
        model: any module; under stage 3 also one that was made within `deepspeed.zero.Init`.
        tasks: at most 64.
        target: index of the target.
        settings: of the run.
        ranks: this process among those that train together.
        device: of this rank.
        zero: DeepSpeed's settings.

    Raises:
        AvilError: DeepSpeed is missing or cannot train this model.
    """

    _all: list[shards.ZeroShard]

    def __init__(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        target: int,
        settings: EngineSettings,
        ranks: Ranks,
        device: torch.device,
        zero: ZeroConfig,
    ) -> None:
        deepspeed = setup.join(device)
        super().__init__(model, tasks, target, settings, ranks, device)
        shared, heads = assign(model, tasks)
        _require_one_dtype([*shared, *(p for head in heads for p in head)])
        if zero.stage == 3:
            model_access.require_dimensions(model)
        self.name = f"ZeRO {zero.stage}"
        self._lr = settings.optimizer.lr
        self._came_whole = not any(model_access.is_partitioned(parameter) for parameter in model.parameters())
        self._attributes = model_access.attributes(model)
        self._linear = functional.linear
        layers = grouped(model, shared, settings.granularity)
        self.groups = {name: sum(map(model_access.numel, own)) for name, own in layers.items()}
        groups: list[optimizer.Group] = [{"params": own, "task": None} for own in layers.values()]
        groups += [{"params": head, "task": i} for i, head in enumerate(heads) if head]
        base = None
        if settings.optimizer.backend == "deepspeed":
            base = setup.deepspeed_adam(zero.offload or device.type == "cpu")
        self._client = optimizer.make(groups, settings.optimizer, base)
        setup.check(zero.settings, zero.name)
        elements = sum(model_access.numel(p) for group in groups for p in group["params"])
        config = zero.with_buckets(elements)
        with model_access.readable_as_bytes(model):
            self._zero, *_ = deepspeed.initialize(
                model=Caller(model), optimizer=self._client, config=config, dist_init_required=False
            )
        self._partitions = shards.partitions_of(self._zero, zero.stage)
        owners = [group["task"] for group in groups]
        scaled_head: list[shards.ZeroShard] = []
        if settings.scale_target_head and target in owners:
            scaled_head = self._partitions.of_group(owners.index(target))
        of_groups = [(owner, self._partitions.of_group(group)) for group, owner in enumerate(owners)]
        self._all = [shard for _, shards in of_groups for shard in shards]
        self._owners = [owner for owner, shards in of_groups for _ in shards]
        self._gradient_pending = False
        # Where DeepSpeed would hold the sum of gradients and the next one at a time.
        self._dots_of_each = zero.stage == 2 and not zero.offload
        self._make_deltas([shards for owner, shards in of_groups if owner is None], scaled_head, settings)

    def begin_task(self, task: int, seed: int) -> None:
        super().begin_task(task, seed)
        self._client.begin_task(task)

    def end_task(self, *, restore: bool = True) -> TaskRun:
        self._client.end_task()
        return super().end_task(restore=restore)

    def _call(self, function: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> Tensor:
        result: Tensor = self._zero(function, batch)
        return result

    def _begin_gradient(self) -> None:
        self._partitions.forget_gradients()

    def _backward(self, loss: Tensor, last: bool) -> None:
        self._zero.set_gradient_accumulation_boundary(last)
        self._zero.backward(loss, scale_wrt_gas=False)
        self._gradient_pending = True

    def _step(self, lr_scale: float) -> Tensor:
        assert self._loss_of is not None
        self._client.on_loss_of(self._loss_of)
        self._client.set_lr(lr_scale * self._lr)
        self._zero_step()
        rejected = not self._zero.was_step_applied()  # where the norm of the gradient over all ranks is not finite
        if rejected:
            self._partitions.publish()  # stage 3 has let go of parameters that it holds whole between steps
        return torch.full((), rejected, dtype=torch.bool, device=self.device)

    def _publish(self) -> None:
        if self._gradient_pending:
            self._zero_step()
            if self._zero.was_step_applied():
                return
        self._partitions.publish()

    def _zero_step(self) -> None:
        self._zero.step()
        self._gradient_pending = False

    def _publish_all(self) -> None:
        self._publish()

    def placement(self) -> Placement:
        parameters = trainable(self.model)
        index = {id(parameter): i for i, parameter in enumerate(parameters.values())}
        partitions = {id(shard.parameter): k for k, shard in enumerate(self._all)}
        slices: list[tuple[int, ...]] = [
            (index[id(lp)], start, stop, partitions[id(flat)], offset)
            for lp, start, stop, flat, offset in self._partitions.slices()
        ]
        shapes = {name: model_access.shape(parameter) for name, parameter in parameters.items()}
        return Placement(shapes, [shard.master.numel() for shard in self._all], as_table(slices))

    def _moments(self, task: int) -> dict[int, dict[str, Any]]:
        state = self._client.moments(task)
        # Shared moments that do not outlive the turn are those of the task whose turn it is.
        owners = (task,) if self._client.resets and task != self._current else (None, task)
        own = ((k, s.parameter) for k, s in enumerate(self._all) if self._owners[k] in owners)
        return {k: state[flat] for k, flat in own if state.get(flat)}

    def _make_moments(self, task: int, names: Sequence[str], steps: Mapping[str, int | None]) -> None:
        for where, owner in (("shared", None), ("head", task)):
            if where in steps:
                flats = [s.parameter for s, whose in zip(self._all, self._owners, strict=True) if whose == owner]
                self._client.make_moments(task, flats, names, steps[where])

    def _forget_moments(self) -> None:
        self._client.forget()

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.model.named_parameters():
            with model_access.whole(parameter):
                yield name, parameter.detach()
        yield from saved_buffers(self.model)

    def abandon(self) -> None:
        if self.ranks.size == 1:
            self.close()
        else:  # the model stays in shards: to gather it takes all ranks
            super().close()
            model_access.put_back_linear(self._linear)

    def close(self) -> None:
        super().close()
        model_access.put_back_linear(self._linear)
        if not hasattr(self, "_zero"):
            return
        full: dict[nn.Parameter, Tensor] = {}
        if self._came_whole:
            for parameter in self.model.parameters():
                with model_access.whole(parameter):
                    full[parameter] = parameter.detach().clone()
        model_access.destroy(self._zero)
        if self._came_whole:
            model_access.release(self.model, full, self._attributes)


def _require_one_dtype(parameters: Sequence[nn.Parameter]) -> None:
    dtypes = sorted({str(parameter.dtype) for parameter in parameters})
    if len(dtypes) > 1:
        raise AvilError(
            f"the model's trainable parameters are {' and '.join(dtypes)}, but ZeRO trains one dtype; convert the "
            f"model with model.float(), and set bf16 in the DeepSpeed file"
        )
