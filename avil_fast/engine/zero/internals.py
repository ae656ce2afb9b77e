"""All that is known of DeepSpeed from the inside: where its optimizers keep this rank's partitions.

Seen in the versions of `TESTED`; the parity tests (tests/engine/test_ranks.py) tell when one of these moves.
`z` is DeepSpeed's ZeRO optimizer, which wraps ours.
"""

from __future__ import annotations

import importlib.metadata
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor, nn

from avil_fast.errors import AvilError

TESTED = ((0, 19, 8), (0, 20))
"""The first version of DeepSpeed that the tests cover, and the first that they do not."""

INSTALL = "pip install 'avil-fast[zero]'"


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


def join(device: torch.device) -> Any:
    """The module deepspeed, which has joined the ranks that met in torch, is quiet, and compiles nothing unasked.

    Raises:
        AvilError: it is missing, or of a version that the tests do not cover.
    """
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    try:
        version = importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError as error:
        raise AvilError(f"ZeRO needs DeepSpeed, which is missing; install it with {INSTALL}") from error
    number = tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())
    if not TESTED[0] <= number < TESTED[1]:
        low, high = (".".join(map(str, bound)) for bound in TESTED)
        raise AvilError(
            f"DeepSpeed is {version}, but ZeRO was tested with {low} up to {high}; install one of these "
            f"with {INSTALL}"
        )
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel("ERROR")
    # Otherwise the first collective on a CPU compiles a shared-memory extension, for more than a minute.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # It joins by itself only if it was imported before the ranks met.
    deepspeed.init_distributed("nccl" if device.type == "cuda" else "gloo", auto_mpi_discovery=False)
    return deepspeed


def check(settings: Mapping[str, Any], name: str) -> None:
    """Refuse settings that DeepSpeed itself does not take, once `join` has been called.

    Raises:
        AvilError: says what DeepSpeed says.
    """
    from deepspeed.runtime.config import DeepSpeedConfig

    try:
        DeepSpeedConfig(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise AvilError(
            f"{name}: {where} is {first['input']!r}, but DeepSpeed says: {first['msg']}; correct it, or "
            f"leave it out"
        ) from error
    except Exception as error:  # assertions, and errors of its own
        said = " ".join(str(error).split()) or type(error).__name__
        raise AvilError(f"{name}: DeepSpeed refuses it: {said}; correct that setting, or leave it out") from error


def deepspeed_adam(masters_on_cpu: bool) -> type[torch.optim.Optimizer]:
    """DeepSpeed's Adam for where the masters lie; compiles it at first use."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam

    base: type[torch.optim.Optimizer] = DeepSpeedCPUAdam if masters_on_cpu else FusedAdam
    return base


@contextmanager
def whole(parameter: nn.Parameter) -> Iterator[None]:
    """The full value of a parameter, for reading, as long as the context lasts."""
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        yield


def shape(parameter: nn.Parameter) -> list[int]:
    """Of the whole parameter, wherever it lies."""
    return list(getattr(parameter, "ds_shape", parameter.shape))


def numel(parameter: nn.Parameter) -> int:
    """Elements of the whole parameter, wherever it lies."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def is_partitioned(parameter: nn.Parameter) -> bool:
    """Whether ZeRO stage 3 has taken a parameter's memory."""
    return hasattr(parameter, "ds_id")


Attributes = dict[nn.Parameter | nn.Module, set[str]]


def attributes(model: nn.Module) -> Attributes:
    """The names of what parameters and modules hold, before DeepSpeed gives them more."""
    items: list[nn.Parameter | nn.Module] = [*model.parameters(), *model.modules()]
    return {item: set(vars(item)) for item in items}


def destroy(engine: Any) -> None:
    """Have DeepSpeed's engine let go of the model, and of the memory.

    Its hooks on gradients hold its optimizer, which holds them, in circles that Python does not see; and a cache
    of stage 3's coordinator, which knows all parameters, is that of its class. Without this a run's memory would
    be there for as long as the process.
    """
    z = engine.optimizer
    offload = getattr(z, "parameter_offload", None)
    engine.destroy()
    if offload is not None:
        for method in vars(type(offload.param_coordinator)).values():
            for cell in getattr(method, "__closure__", None) or ():
                getattr(cell.cell_contents, "cache_clear", lambda: None)()
        vars(offload.param_coordinator).clear()
        vars(offload).clear()
    vars(z).clear()
    vars(engine).clear()


def release(model: nn.Module, values: Mapping[nn.Parameter, Tensor], before: Attributes) -> None:
    """Make a model whose engine is gone an ordinary one again, with these values.

    Args:
        before: what `attributes` found.
    """
    for parameter, value in values.items():
        parameter.data = value
        parameter.grad = None
    for module in model.modules():
        module._parameters = dict(module._parameters)  # stage 3 put in a dict that gathers
    for item, names in before.items():
        for name in vars(item).keys() - names:
            made_by = getattr(vars(item)[name], "__module__", None) or ""
            named = name.startswith("ds_") or name == "_external_params"
            if isinstance(item, nn.Parameter) or named or made_by.startswith("deepspeed"):
                del vars(item)[name]
