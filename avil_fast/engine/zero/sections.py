"""Sections of DeepSpeed's file: what they may say beside deltas, α gradients and masters in fp32.

`settings` is the file, and `name` what messages call it.

Raises:
    AvilError: a setting is not supported; says which and what to set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from avil_fast.errors import AvilError

REFUSED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "zero_hpz_partition_size": (lambda v: v not in (1, None), "leave it out; secondary partitions would go stale"),
    "zero_quantized_weights": (bool, "leave it out; θ would not be what the masters say"),
    "zero_quantized_nontrainable_weights": (bool, "leave it out"),
    "zero_quantized_gradients": (bool, "leave it out; the α gradient would be rounded"),
    "zenflow": (lambda v: v is not None, "leave it out; it steps parameters at different times"),
    "legacy_stage1": (bool, "leave it out"),
    "compute_grad_norm": (lambda v: v is False, "leave it out; a gradient that is not finite would be stepped on"),
}

LEAST = {"reduce_bucket_size": 1, "stage3_max_live_parameters": 0, "stage3_prefetch_bucket_size": 0}
"""Numbers of elements that are read here, and the least that each may be; DeepSpeed checks the others."""


def zero_optimization(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """How the model is sharded and what is offloaded, without its "auto"s."""
    zero = section(settings, "zero_optimization", name)
    stage = zero.setdefault("stage", 0)
    if isinstance(stage, bool) or stage not in (0, 1, 2, 3):
        raise AvilError(f"{name}: zero_optimization.stage is {stage!r}, but must be 0, 1, 2 or 3")
    for key in [key for key, value in zero.items() if value == "auto"]:
        del zero[key]  # as DeepSpeed takes it: its default
    for key in LEAST.keys() & zero.keys():
        value = zero[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST[key] <= value < math.inf:
            raise AvilError(
                f"{name}: zero_optimization.{key} is {value!r}, but must be a number of elements, at least "
                f"{LEAST[key]}, or 'auto'"
            )
    for key, (refused, advice) in REFUSED.items():
        if key in zero and refused(zero[key]):
            raise AvilError(f"{name}: zero_optimization.{key} is {zero[key]!r}; {advice}")
    for key in ("offload_optimizer", "offload_param"):
        offload = section(zero, key, f"{name}: zero_optimization")
        device = offload.get("device", "none")
        if device not in ("none", "cpu"):
            raise AvilError(
                f"{name}: zero_optimization.{key}.device is {device!r}, but deltas are taken from memory; set cpu"
            )
        if key == "offload_optimizer" and offload.get("ratio", 1.0) != 1.0:
            raise AvilError(
                f"{name}: zero_optimization.offload_optimizer.ratio is {offload['ratio']}, which divides the "
                f"masters among devices; set 1.0"
            )
        if offload.get("super_offload"):
            raise AvilError(f"{name}: zero_optimization.{key}.super_offload is true; leave it out")
        if device == "cpu" and stage == 0:
            raise AvilError(
                f"{name}: zero_optimization.{key} needs zero_optimization.stage 1, 2 or 3; set stage to 2"
            )
        if key == "offload_param" and device == "cpu" and stage != 3:
            raise AvilError(f"{name}: zero_optimization.offload_param needs zero_optimization.stage 3; set it")
    return zero


def bf16(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Whether the model trains in bf16."""
    found = {"enabled": False} | section(settings, "bf16", name)
    if not isinstance(found["enabled"], bool):
        raise AvilError(f"{name}: bf16.enabled is {found['enabled']!r}, but must be true or false")
    if found.get("check_grad_overflow", True) is not True:
        raise AvilError(
            f"{name}: bf16.check_grad_overflow is {found['check_grad_overflow']!r}; leave it out, a gradient "
            f"that is not finite would be stepped on"
        )
    for key in ("bf16_master_weights_and_grads", "bf16_optimizer_states"):
        if found.get(key):
            raise AvilError(f"{name}: bf16.{key} is {found[key]!r}; leave it out, deltas need masters in fp32")
    return found


def section(settings: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    """A copy of it; empty if the file has none."""
    found = settings.get(key) or {}
    if not isinstance(found, dict):
        raise AvilError(f"{name}: {key} is {found!r}, but must be a section")
    return dict(found)
