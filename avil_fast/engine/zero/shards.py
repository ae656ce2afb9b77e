"""Where DeepSpeed's optimizers keep this rank's partitions and their gradients, as seen from the inside.

Of the versions of `setup.TESTED`; the parity tests (tests/engine/test_ranks.py) tell when one of these moves. `z`
is DeepSpeed's ZeRO optimizer, which wraps ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class ZeroShard:
    """This rank's part of one of ZeRO's parameter groups, or of a sub-group of one."""

    master: Tensor
    """[numel] fp32, ZeRO's own memory."""
    gradient: Callable[[], Tensor]
    parameter: Tensor
    """What the optimizer steps: `master` is its data."""
    low: Sequence[Tensor] = ()
    """ZeRO casts by itself."""

    @property
    def grad(self) -> Tensor:
        return self.gradient()


Slice = tuple[nn.Parameter, int, int, Tensor, int]
"""(parameter, start, stop, partition, offset): elements start:stop of it lie there in the partition."""


class Partitions(ABC):
    """ZeRO's partitions of one stage."""

    def __init__(self, z: Any) -> None:
        self.z = z
        # ZeRO would hold views of the first task's moments for an interface that is not used here.
        z._hp_optimizer_states_linked = True

    @abstractmethod
    def of_group(self, group: int) -> list[ZeroShard]:
        """The partitions of a parameter group, in the order in which the optimizer was given the groups."""

    @abstractmethod
    def slices(self) -> Iterator[Slice]:
        """What this rank owns of every trainable parameter."""

    @abstractmethod
    def forget_gradients(self) -> None:
        """Drop an earlier gradient: its memory, and what a parameter without a new one would keep of it."""

    @abstractmethod
    def publish(self) -> None:
        """Cast the masters and give every rank what it needs of them, as `step` does at its end."""


class Stage1And2(Partitions):
    """Stages 1 and 2: a group's parameters end to end, split evenly."""

    def of_group(self, group: int) -> list[ZeroShard]:
        partition = self.z.single_partition_of_fp32_groups[group]
        return [ZeroShard(partition.detach(), lambda: self._gradient(group), partition)]

    def slices(self) -> Iterator[Slice]:
        # Not `_hp_mapping`, which does not know of round_robin_gradients.
        for group, partition in enumerate(self.z.single_partition_of_fp32_groups):
            numel = partition.numel()
            first = numel * dist.get_rank(self.z.real_dp_process_group[group])
            parameters, offsets = self.z.round_robin_bit16_groups[group], self.z.round_robin_bit16_offsets[group]
            for parameter, at in zip(parameters, offsets, strict=True):
                start, stop = max(first, at), min(first + numel, at + parameter.numel())
                if start < stop:
                    yield parameter, start - at, stop - at, partition, start - first

    def _gradient(self, group: int) -> Tensor:
        partition = self.z.single_partition_of_fp32_groups[group]
        if self.z.cpu_offload:
            self.z._wait_for_offload_copies()
            offloaded: Tensor = partition.grad
            return offloaded
        pieces = self.z.averaged_gradients[group]
        flat: Tensor | None = getattr(pieces, "flat_partition", None)
        if flat is None:
            flat = torch.cat([piece.reshape(-1) for piece in pieces])
        padding = partition.numel() - flat.numel()
        return torch.nn.functional.pad(flat, (0, padding)) if padding else flat

    def forget_gradients(self) -> None:
        if self.z.cpu_offload:
            for partition in self.z.single_partition_of_fp32_groups:
                partition.grad.zero_()
        for kept in (self.z.averaged_gradients, self.z.all_grad_tensors):
            kept.update(dict.fromkeys(kept))  # to None, as after a step that was not rejected

    def publish(self) -> None:
        self.z.update_lp_params()


class Stage3(Partitions):
    """Stage 3: every parameter is split evenly, and a sub-group's parts lie end to end."""

    def __init__(self, z: Any) -> None:
        super().__init__(z)
        self._clear_padding()

    def of_group(self, group: int) -> list[ZeroShard]:
        shards, offset = [], 0
        for sub_group, partition in enumerate(self.z.fp32_partitioned_groups_flat):
            if self.z.sub_group_to_group_id[sub_group] == group:
                gradient = self._slice(offset, partition.numel())
                shards.append(ZeroShard(partition.detach(), gradient, partition))
            offset += partition.numel()
        return shards

    def _slice(self, offset: int, numel: int) -> Callable[[], Tensor]:
        return lambda: self.z.grad_partitions_flat_buffer.narrow(0, offset, numel)

    def slices(self) -> Iterator[Slice]:
        for parameter, first, inside, _, partition, offset in self._parts():
            if inside:
                yield parameter, first, first + inside, partition, offset

    def _parts(self) -> Iterator[tuple[nn.Parameter, int, int, int, Tensor, int]]:
        """(parameter, its first element here, how many are, room for them, partition, offset in it) of all."""
        for sub_group, partition in enumerate(self.z.fp32_partitioned_groups_flat):
            offset = 0
            for parameter in self.z.fp16_groups[sub_group]:
                size = parameter.partition_numel()
                first = size * self.z._get_param_partition_rank(parameter)
                inside = min(max(parameter.ds_numel - first, 0), size)
                yield parameter, first, inside, size, partition, offset
                offset += size

    def _clear_padding(self) -> None:
        """Zero what lies beyond a parameter's end: DeepSpeed leaves it as allocated, and NaN would reach α."""
        for _, _, inside, size, partition, offset in self._parts():
            partition.detach()[offset + inside : offset + size] = 0.0

    def forget_gradients(self) -> None:
        self.z.grad_partitions_flat_buffer.zero_()
        if self.z.offload_optimizer:
            for partition in self.z.fp32_partitioned_groups_flat:
                partition.grad.zero_()

    def publish(self) -> None:
        self.z._partition_all_parameters()
        for sub_group in range(len(self.z.fp16_groups)):
            self.z._reassign_or_swap_out_partitioned_parameters(sub_group)
        if self.z.persistent_parameters:  # at once, not one by one as they are used
            self.z.persistent_parameters[0].all_gather(self.z.persistent_parameters)
        self.z.invalidate_secondary_tensor()


def partitions_of(engine: Any, stage: int) -> Partitions:
    """The partitions of a DeepSpeed engine."""
    return Stage3(engine.optimizer) if stage == 3 else Stage1And2(engine.optimizer)
