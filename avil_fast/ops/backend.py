"""The choice of backend: `reference` (torch), `cpu` (the C++ extension), `triton` (CUDA).

`AVIL_BACKEND` forces one. Otherwise the fastest that fits the tensors' device and dtypes is taken.

A backend is a module with the four operations under the names of `avil_fast.ops`, with the arguments of
their `reference` functions, with `DEVICES` and `DTYPES`, the device types and dtypes it serves, and with
`obstacle(device)`: why it cannot run on a device of such a type, in words, or None.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from torch import Tensor

MODULES = {"cpu": "avil_fast.ops.cpu", "triton": "avil_fast.ops.triton"}
NAMES = ("reference", *MODULES)
REMEDIES = {
    "cpu": "build it with `pip install --no-deps -e .`",
    "triton": "install it with `pip install triton`",
}
"""What makes a backend that cannot be imported work."""

MISSING = {
    "cpu": ("the C++ extension is not built", "the CPU"),
    "triton": ("triton is missing", "the GPU"),
}
"""For the warning: what is missing, and which device it concerns."""


forked = False
"""This process is a fork, as the workers of a DataLoader are: OpenMP's threads did not survive."""


def _fork() -> None:
    global forked
    forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fork)


class BackendError(RuntimeError):
    """The backend that was asked for cannot run here."""


def implementation(operation: str, reference: Callable[..., Any], *samples: Tensor) -> Callable[..., Any]:
    """The function that runs `operation`.

    Args:
        operation: its name in `avil_fast.ops`.
        reference: its torch reference.
        samples: one tensor from each list of arguments; a list has one device and one dtype.

    Raises:
        BackendError: AVIL_BACKEND names no backend, or one that cannot serve these tensors.
    """
    forced = _forced()
    if forced == "reference":
        return reference
    if forced:
        obstacle = _obstacle(forced, samples)
        if obstacle:
            raise BackendError(f"AVIL_BACKEND is {forced!r}, but {obstacle}")
        module: ModuleType | None = _load(forced)
    else:
        module = _fitting("triton" if samples[0].is_cuda else "cpu", samples)
    chosen: Callable[..., Any] = reference if module is None else getattr(module, operation)
    return chosen


def require_known() -> None:
    """Refuse an AVIL_BACKEND or AVIL_ISA that no operation can run with, before the first one does.

    Raises:
        BackendError: it names nothing that is known, or what is not built, or what this processor does not have.
    """
    forced = _forced()
    if forced in MODULES and _load(forced) is None:
        obstacle = _not_there(forced)
        raise BackendError(f"AVIL_BACKEND is {forced!r}, but {obstacle}")
    if os.environ.get("AVIL_ISA") and (module := _load("cpu")) is not None:
        try:
            module.instructions()
        except ValueError as error:
            raise BackendError(f"{error}; unset AVIL_ISA, or set it to portable") from None


def _forced() -> str:
    """The backend that AVIL_BACKEND names; empty where it does not."""
    forced = os.environ.get("AVIL_BACKEND", "")
    if forced and forced not in NAMES:
        raise BackendError(f"AVIL_BACKEND is {forced!r}, but must be one of {', '.join(NAMES)}")
    return forced


def describe(name: str) -> str:
    """What runs the operations on the device of a backend, for people."""
    module = _load(name)
    if module is None:
        return f"the slower torch reference: {REMEDIES[name]}"
    if name != "cpu":
        return name
    try:
        return f"cpu, {module.instructions()}"
    except ValueError as error:  # of AVIL_ISA
        return f"cpu, but {error}"


def _fitting(name: str, samples: tuple[Tensor, ...]) -> ModuleType | None:
    module = _load(name)
    if module is None:
        what, where = MISSING[name]
        _warn_once(f"{what}: operations on {where} run on the slower torch reference; {REMEDIES[name]}")
        return None
    obstacle = module.obstacle(samples[0].device)
    if obstacle:
        _warn_once(f"operations on deltas run on the slower torch reference: {obstacle}")
        return None
    devices, dtypes = module.DEVICES, module.DTYPES
    serves = all(sample.device.type in devices and sample.dtype in dtypes for sample in samples)
    return module if serves else None


@cache
def _load(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(MODULES[name])
    except ImportError:
        return None


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)


INSTEAD = "unset AVIL_BACKEND, or set it to reference"


def _not_there(name: str) -> str:
    return f"{MODULES[name]} cannot be imported; {REMEDIES[name]}"


def _obstacle(name: str, samples: tuple[Tensor, ...]) -> str | None:
    """Why a backend cannot serve these tensors, in words."""
    module = _load(name)
    if module is None:
        return _not_there(name)
    for sample in samples:
        if sample.device.type not in module.DEVICES:
            served = " and ".join(sorted(module.DEVICES))
            return f"the tensors are on {sample.device}, and it serves {served}; {INSTEAD}"
        if sample.dtype not in module.DTYPES:
            served = ", ".join(sorted(str(dtype) for dtype in module.DTYPES))
            return f"a tensor is {sample.dtype}, and it serves {served}; {INSTEAD}"
    obstacle: str | None = module.obstacle(samples[0].device)
    return obstacle and f"{obstacle}; {INSTEAD}"
