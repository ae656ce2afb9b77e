"""The operations on a CUDA device, as Triton kernels; on the CPU where Triton interprets.

`TRITON_INTERPRET=1` must be set before this module is first imported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from triton import knobs

from avil_fast.kernels import capture, weighted_sum
from avil_fast.kernels import delta_dots as dots
from avil_fast.kernels import delta_gram as gram
from avil_fast.kernels.configs import ELEMENTS

DEVICES = frozenset({"cpu" if knobs.runtime.interpret else "cuda"})
DTYPES = frozenset(ELEMENTS)
CAPABILITY = (8, 0)
"""The least that the kernels are compiled and tested for."""


@cache
def obstacle(device: torch.device) -> str | None:
    """What keeps this backend from running on a device, for people; None if it can."""
    if device.type != "cuda":
        return None
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) >= CAPABILITY:
        return None
    return (
        f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, "
        f"and the Triton kernels need {CAPABILITY[0]}.{CAPABILITY[1]} (A100) or later"
    )


def _on_the_tensors_device(run: Callable[..., Any]) -> Callable[..., Any]:
    """Triton launches on the current device, which need not be that of the tensors."""

    def launch(*arguments: Any) -> Any:
        first = arguments[0][0]  # every operation begins with a list of tensors, all on one device
        with torch.cuda.device(first.device if first.is_cuda else -1):  # -1 changes nothing
            return run(*arguments)

    return launch


weighted_sum_ = _on_the_tensors_device(weighted_sum.weighted_sum_)
delta_dots = _on_the_tensors_device(dots.delta_dots)
capture_ = _on_the_tensors_device(capture.capture_)
delta_gram = _on_the_tensors_device(gram.delta_gram)
