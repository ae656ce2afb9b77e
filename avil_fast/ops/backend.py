"""The choice of backend: `reference` (torch), `cpu` (the C++ extension), `triton` (CUDA).

`AVIL_BACKEND` forces one. Otherwise the fastest that fits the tensors' device and dtype is taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch import Tensor

NAMES = ("reference",)


class BackendError(RuntimeError):
    """The backend that was asked for cannot run here."""


def implementation(operation: str, reference: Callable[..., Any], like: Tensor) -> Callable[..., Any]:
    """The function that runs `operation` on tensors like this one."""
    forced = os.environ.get("AVIL_BACKEND", "")
    if forced and forced not in NAMES:
        raise BackendError(f"AVIL_BACKEND is {forced!r}, but must be one of {', '.join(NAMES)}")
    return reference
