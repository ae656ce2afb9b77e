"""DeepSpeed's JSON file beside a run's settings: one of them says how to train, and they must agree.

Batch size, gradient accumulation, clipping and the optimizer belong to the run. In the JSON file they may be
left out or "auto"; if they are numbers, they must be those of the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avil_fast.engine.zero.sections import bf16, section, zero_optimization
from avil_fast.errors import AvilError, reason

if TYPE_CHECKING:
    from avil_fast.config import TrainConfig

PASSED_ON = {
    "activation_checkpointing",
    "bf16",
    "comms_logger",
    "communication_data_type",
    "data_types",
    "flops_profiler",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "steps_per_print",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "wall_clock_breakdown",
    "zero_optimization",
}
"""Sections that DeepSpeed is given; others would be lost or are known to break the deltas, so they are refused."""

OWNED = {
    "optimizer": "the run's optimizer.* says how to train",
    "scheduler": "the run decides the learning rate, and α steps must not advance a schedule",
    "fp16": 'a step that overflows would lose a write of θ; set "bf16": {"enabled": true}',
}
"""Sections that are refused with a reason of their own."""

BUCKET = 500_000_000
"""Elements of DeepSpeed's buckets where its file names no number."""


@dataclass(frozen=True)
class ZeroConfig:
    """A DeepSpeed file that has been read and fits the run."""

    name: str
    """The file's name, for messages."""
    settings: dict[str, Any]
    """What DeepSpeed is given."""

    @property
    def stage(self) -> int:
        return int(self.settings["zero_optimization"]["stage"])

    @property
    def bf16(self) -> bool:
        return bool(self.settings["bf16"]["enabled"])

    @property
    def offload(self) -> bool:
        """Masters and the optimizer's state lie in CPU memory."""
        device = (self.settings["zero_optimization"].get("offload_optimizer") or {}).get("device", "none")
        return bool(device == "cpu")

    def bucket(self, elements: int) -> int:
        """Elements of the bucket that gradients are collected in, for a model that trains so many."""
        return int(self.settings["zero_optimization"].get("reduce_bucket_size", min(BUCKET, elements)))

    def with_buckets(self, elements: int) -> dict[str, Any]:
        """What DeepSpeed is given for such a model: it takes buckets of 2 GB for the smallest one, too."""
        zero = self.settings["zero_optimization"] | {"reduce_bucket_size": self.bucket(elements)}
        return self.settings | {"zero_optimization": zero}


def read(path: Path) -> dict[str, Any]:
    """A DeepSpeed file as it stands.

    Raises:
        AvilError: it cannot be read, or is no JSON object.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AvilError(
            f"--deepspeed_config {str(path)!r} cannot be read: {reason(error)}; check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise AvilError(f"--deepspeed_config {str(path)!r} is not JSON: {error}; correct it there") from error
    if not isinstance(settings, dict):
        raise AvilError(
            f"--deepspeed_config {str(path)!r} holds a {type(settings).__name__}, but must hold settings"
        )
    return settings


def resolve(
    settings: Mapping[str, Any], run: TrainConfig, ranks: int, name: str = "the DeepSpeed file"
) -> ZeroConfig:
    """Check a DeepSpeed file against a run on so many ranks, and fill in what it leaves to the run.

    Raises:
        AvilError: a setting is not supported or contradicts the run; says which and what to set.
    """
    for key in settings:
        if key in OWNED and not (key == "fp16" and _is_off(settings["fp16"])):
            raise AvilError(f"{name} has {key!r}: {OWNED[key]}; remove it from the file")
        if key not in PASSED_ON and key not in OWNED:
            raise AvilError(
                f"{name} has {key!r}, which αVIL's engine was not tested with; remove it from the file"
            )
    filled = {key: value for key, value in settings.items() if key in PASSED_ON}
    filled["zero_optimization"] = zero_optimization(settings, name)
    filled["bf16"] = bf16(settings, name)
    if filled["bf16"]["enabled"] and filled["zero_optimization"]["stage"] > 0:
        _accumulate_in_fp32(filled, section(settings, "data_types", name), name)
    filled.update(_batches(settings, run, ranks, name))
    clip = run.optimizer.clip_norm or 0.0
    _agree(settings, "gradient_clipping", clip, "optimizer.clip_norm", name, also=0.0)
    filled["gradient_clipping"] = clip
    filled["zero_allow_untested_optimizer"] = True  # ours is torch's own, with a choice of the groups it steps
    filled["zero_force_ds_cpu_optimizer"] = False
    filled.setdefault("steps_per_print", 2**31)
    return ZeroConfig(name, filled)


def _accumulate_in_fp32(filled: dict[str, Any], types: dict[str, Any], name: str) -> None:
    """Sums of many dev batches' gradients come to a stop in bf16.

    For stage 1 DeepSpeed has another optimizer then, without partitions to read α gradients from; stage 2 gives
    the same results in less memory.
    """
    given = types.setdefault("grad_accum_dtype", "fp32")
    if given not in ("fp32", "float32"):
        raise AvilError(
            f"{name}: data_types.grad_accum_dtype is {given!r}, in which α gradients over many batches lose their "
            f"digits; set fp32, or leave it out"
        )
    filled["data_types"] = types
    if filled["zero_optimization"]["stage"] == 1:
        filled["zero_optimization"]["stage"] = 2


def _batches(settings: Mapping[str, Any], run: TrainConfig, ranks: int, name: str) -> dict[str, int]:
    parts = run.gradient_accumulation_steps
    _agree(settings, "gradient_accumulation_steps", parts, "gradient_accumulation_steps", name)
    _agree(settings, "train_batch_size", run.batch_size, "batch_size", name)
    micro = settings.get("train_micro_batch_size_per_gpu", "auto")
    if micro != "auto" and (isinstance(micro, bool) or not isinstance(micro, int)):
        raise AvilError(f"{name}: train_micro_batch_size_per_gpu is {micro!r}, but must be a number or 'auto'")
    if micro != "auto" and micro * ranks * parts != run.batch_size:
        raise AvilError(
            f"batch_size is {run.batch_size}, but {name} says train_micro_batch_size_per_gpu {micro}, which on "
            f"{ranks} ranks with gradient_accumulation_steps {parts} makes {micro * ranks * parts}; set "
            f"batch_size={micro * ranks * parts}, or train_micro_batch_size_per_gpu to 'auto'"
        )
    # Only DeepSpeed's own bookkeeping reads these: every rank is handed its share of the run's batches.
    micro = max(1, run.batch_size // (ranks * parts))
    return {
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": parts,
        "train_batch_size": micro * ranks * parts,
    }


def _agree(
    settings: Mapping[str, Any], key: str, value: float, run_name: str, name: str, also: object = None
) -> None:
    """Refuse a value of the file that is not the run's."""
    given = settings.get(key, "auto")
    if given not in ("auto", value, also):
        raise AvilError(f"{run_name} is {value}, but {name} says {key} {given}; set one to the other, or 'auto'")


def _is_off(section: object) -> bool:
    return isinstance(section, dict) and section.get("enabled", False) is False
