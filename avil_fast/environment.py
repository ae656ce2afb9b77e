"""What this machine and installation have."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform

import torch

from avil_fast.ops.backend import describe

PACKAGES = ("triton", "deepspeed", "transformers", "datasets", "peft", "torchmetrics", "tensorboard", "wandb")
"""Those that not every run needs."""


def cpus() -> int:
    """How many CPUs this process may use: where the system does not tell, all that there are."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment() -> dict[str, str]:
    """Versions, devices and backends by name, for people; nothing of the environment's variables."""
    about = {
        "avil_fast": importlib.metadata.version("avil-fast"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "torch": torch.__version__,
        "cpus": f"{cpus()}, {torch.get_num_threads()} threads",
        "gpus": _gpus(),
        "operations on the CPU": describe("cpu"),
        "operations on a GPU": describe("triton"),
    }
    for package in PACKAGES:
        there = importlib.util.find_spec(package) is not None
        about[package] = importlib.metadata.version(package) if there else "not installed"
    return about


def _gpus() -> str:
    if not torch.cuda.is_available():
        return "none that torch sees"
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return ", ".join(f"{gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for gpu in gpus)
