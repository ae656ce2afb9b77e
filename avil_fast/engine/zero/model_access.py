"""What DeepSpeed makes of a model: parameters that lie in shards, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from avil_fast.errors import AvilError

STAYS = "ds_optim_param"
"""The name of DeepSpeed's mark on a parameter that is not sent to other ranks when an engine is made."""


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


@contextmanager
def readable_as_bytes(model: nn.Module) -> Iterator[None]:
    """Have DeepSpeed begin with a model whose parameters it cannot all send: it looks at them as bytes.

    Torch refuses that for what is strided (channels_last, transposed), which is laid out anew, and for scalars.
    They are marked as DeepSpeed's own LoRA marks what stays on its rank; all ranks have the same model by now.
    """
    for parameter in model.parameters():
        if parameter.dim() and parameter.stride() != torch.empty(parameter.shape, device="meta").stride():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    scalars = [parameter for parameter in model.parameters() if parameter.dim() == 0]
    for parameter in scalars:
        vars(parameter)[STAYS] = True
    yield
    for parameter in scalars:
        del vars(parameter)[STAYS]


def require_dimensions(model: nn.Module) -> None:
    """Refuse scalars and what has no elements, of which stage 3 cannot make shards."""
    for name, parameter in model.named_parameters():
        if numel(parameter) == 0:
            raise AvilError(
                f"the parameter {name!r} has no elements, and ZeRO stage 3 makes no shards of it; leave it out, "
                f"or set stage 2 in the DeepSpeed file"
            )
        if parameter.dim() == 0:
            raise AvilError(
                f"the parameter {name!r} is a scalar, of which ZeRO stage 3 makes no shards; give it the shape "
                f"[1], or set stage 2 in the DeepSpeed file"
            )


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


def put_back_linear(before: Callable[..., Tensor]) -> None:
    """Make torch's `linear` what it was: stage 3 puts one of its own there, and leaves it to all that comes after.

    That one has no second derivative, works in no `torch.func`, and rounds otherwise.
    """
    setattr(functional, "linear", before)  # noqa: B010  mypy takes it for a function


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
