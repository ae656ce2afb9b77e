"""Which of the model's parameters are shared (they make up θ and δ) and which are a task's head."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from avil_fast.engine.layers import MODEL, layers
from avil_fast.engine.partition import Partition, release
from avil_fast.errors import AvilError
from avil_fast.tasks.task import Task

Granularity = Literal["model", "layer"]
"""What has coefficients of its own."""


@dataclass(frozen=True)
class Parameters:
    """The model's trainable parameters, flattened: shared ones by group, and each task's head (may be empty)."""

    groups: dict[str, list[Partition]]
    heads: list[list[Partition]]

    @property
    def shared(self) -> list[Partition]:
        return list(itertools.chain.from_iterable(self.groups.values()))

    @property
    def owners(self) -> list[int | None]:
        """Of each partition in `all` the task whose head it is; None if it is shared."""
        heads = [i for i, head in enumerate(self.heads) for _ in head]
        return [*(None for _ in self.shared), *heads]

    @property
    def all(self) -> list[Partition]:
        return [*self.shared, *itertools.chain.from_iterable(self.heads)]


def flatten(
    model: nn.Module, tasks: Sequence[Task], multiple: int = 1, granularity: Granularity = "model"
) -> Parameters:
    """Flatten the trainable parameters in place, each partition to a multiple of so many elements.

    Raises:
        AvilError: see `assign`; or the parameters are of dtypes that are not trained here.
        RuntimeError: there is no memory for it; no parameter is part of a partition then.
    """
    shared, heads = assign(model, tasks)
    _require_dtypes(model)
    with contextlib.ExitStack() as undo:

        def flat(parameters: Sequence[nn.Parameter]) -> list[Partition]:
            made = []
            for alike in _alike(parameters):
                undo.callback(release, alike)
                made.append(Partition(alike, multiple))
            return made

        groups = {name: flat(own) for name, own in grouped(model, shared, granularity).items()}
        parameters = Parameters(groups, [flat(head) for head in heads])
        undo.pop_all()
    return parameters


def grouped(
    model: nn.Module, shared: Sequence[nn.Parameter], granularity: Granularity
) -> dict[str, list[nn.Parameter]]:
    """The shared parameters by group, in the model's order: all in one, or those of each layer."""
    if granularity == "model":
        return {MODEL: list(shared)}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, list[nn.Parameter]] = {}
    for parameter, layer in zip(shared, layers([names[id(p)] for p in shared]), strict=True):
        found.setdefault(layer, []).append(parameter)
    return found


def assign(model: nn.Module, tasks: Sequence[Task]) -> tuple[list[nn.Parameter], list[list[nn.Parameter]]]:
    """The trainable parameters that are shared, and those of each task's head, in the model's order.

    Tied ones count once, frozen ones not at all.

    Raises:
        AvilError: a head names no parameter, two heads share one, or nothing is left to share.
    """
    owner = _owners(model, tasks)
    parameters = list(trainable(model).values())
    shared = [p for p in parameters if owner.get(id(p)) is None]
    if not shared:
        raise AvilError("the model has no trainable parameter outside the tasks' heads; unfreeze some")
    heads = [[p for p in parameters if owner.get(id(p)) == i] for i in range(len(tasks))]
    return shared, heads


def require_own_memory(model: nn.Module) -> None:
    """Refuse parameters that are tied by their memory alone: what is trained gets its own, and is tied no more.

    Raises:
        AvilError: names two, one of which is trained at the least.
    """
    places = []
    for name, parameter in model.named_parameters():
        if parameter.numel() and _is_dense(parameter):
            start = parameter.data_ptr()
            place = str(parameter.device), start, start + parameter.nbytes
            places.append((*place, name, parameter.requires_grad))
    furthest: dict[bool, tuple[str, int, str]] = {}  # by whether it is trained, what reaches furthest so far
    for device, start, end, name, trained in sorted(places):
        for other_trained, (other_device, other_end, other) in furthest.items():
            if (trained or other_trained) and device == other_device and start < other_end:
                raise AvilError(
                    f"the parameters {other!r} and {name!r} share memory, but are not one; to tie them, assign "
                    f"the Parameter itself, as in model.decoder.weight = model.encoder.weight"
                )
        furthest[trained] = max(furthest.get(trained, (device, 0, "")), (device, end, name))


def _is_dense(tensor: Tensor) -> bool:
    """Whether its elements fill the memory from the first to the last, in whatever order."""
    if tensor.layout is not torch.strided:
        return False
    steps = zip(tensor.stride(), tensor.shape, strict=True)
    return 1 + sum(step * (size - 1) for step, size in steps) == tensor.numel()


def _require_dtypes(model: nn.Module) -> None:
    """Refuse dtypes that would fail in the first merge, when all tasks have trained for a round."""
    names = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad}
    if names != {"float64"} and not names <= {"float32", "bfloat16"}:
        raise AvilError(
            f"the model's trainable parameters are of {', '.join(sorted(names))}; convert it with .float() or "
            f".bfloat16(), or with .double() as a whole"
        )


def _owners(model: nn.Module, tasks: Sequence[Task]) -> dict[int, int]:
    """Task index by id of a head's parameter. A tied one is a head's only if all its names are."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    owner: dict[int, int] = {}
    for i, task in enumerate(tasks):
        if task.head is None:
            continue
        prefix = task.head.rstrip(".")
        inside = [key for key, of in names.items() if all(_below(name, prefix) for name in of)]
        if not inside:
            known = sorted({name.rsplit(".", 1)[0] for of in names.values() for name in of})
            raise AvilError(
                f"task {task.name!r}: its head {prefix!r} names no parameter that is its own; the modules with "
                f"parameters are {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"
            )
        for key in inside:
            if owner.setdefault(key, i) != i:
                raise AvilError(
                    f"tasks {tasks[owner[key]].name!r} and {task.name!r} both have {names[key][0]!r} in their "
                    f"head; a head is one task's own, leave shared parameters out of both"
                )
    return owner


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _alike(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The parameters by dtype and device."""

    def kind(parameter: nn.Parameter) -> tuple[str, str]:
        return str(parameter.dtype), str(parameter.device)

    groups = itertools.groupby(sorted(parameters, key=kind), kind)  # stable: the model's order within
    return [list(group) for _, group in groups]


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name; tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are; one device only, the CPU or a GPU of torch's type cuda."""
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) != 1:
        names = ", ".join(sorted(map(str, devices))) or "none"
        raise AvilError(f"the model's parameters are on {names}; put them all on one device")
    device = devices.pop()
    if device.type not in ("cpu", "cuda"):
        raise AvilError(
            f"the model's parameters are on {device}, which deltas cannot be computed on; put the model on the "
            f"CPU or a CUDA GPU"
        )
    return device
