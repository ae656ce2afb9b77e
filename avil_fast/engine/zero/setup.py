"""DeepSpeed itself: found, joined with the ranks, asked what it thinks of its settings."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError

from avil_fast.errors import AvilError, reason

TESTED = ((0, 19, 8), (0, 20))
"""The first version of DeepSpeed that the tests cover, and the first that they do not."""

INSTALL = "pip install 'avil-fast[zero]'"


def join(device: torch.device) -> Any:
    """The module deepspeed, which has joined the ranks that met in torch, is quiet, and compiles nothing unasked.

    Raises:
        AvilError: it is missing, of a version that the tests do not cover, or was told to run on another device.
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
    from deepspeed.accelerator import get_accelerator
    from deepspeed.utils import logger

    if (its := get_accelerator().device_name()) != device.type:
        raise AvilError(
            f"the model is on {device.type}, but DeepSpeed runs on {its}; put the model there (device={its}), or "
            f"start Python with DS_ACCELERATOR={device.type}"
        )

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
        raise AvilError(
            f"{name}: DeepSpeed refuses it: {reason(error)}; correct that setting, or leave it out"
        ) from error


def deepspeed_adam(masters_on_cpu: bool) -> type[torch.optim.Optimizer]:
    """DeepSpeed's Adam for where the masters lie; compiles it at first use."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam

    base: type[torch.optim.Optimizer] = DeepSpeedCPUAdam if masters_on_cpu else FusedAdam
    return base
