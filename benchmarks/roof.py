"""The roof: how fast this machine moves bytes when nothing is computed."""

from __future__ import annotations

from collections.abc import Callable

import torch

LARGEST = 1 << 30
"""Bytes that a roof moves at most; a rate does not change with more."""


def roof(kind: str, nbytes: int, device: torch.device) -> tuple[Callable[[], object], int]:
    """A call that moves bytes, and how many.

    Args:
        kind: "copy", half of the bytes read and half of them written; or "read", a plain reduction
            (the maximum: on the CPU torch's fastest); or "upload", a copy from pinned memory to a GPU.
        nbytes: as many as this, if that is not too many.
    """
    elements = min(nbytes, LARGEST) // 4
    if kind == "copy":
        source, target = torch.ones(elements // 2, device=device), torch.empty(elements // 2, device=device)
        return lambda: target.copy_(source), 8 * (elements // 2)
    if kind == "upload":
        source = torch.ones(elements, pin_memory=device.type == "cuda")
        target = torch.empty(elements, device=device)
        return lambda: target.copy_(source, non_blocking=True), 4 * elements
    source = torch.ones(elements, device=device)
    return source.amax, 4 * elements
