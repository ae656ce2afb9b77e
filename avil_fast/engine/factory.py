"""Which engine trains a run: one process, ranks with the whole model each, or ranks with a shard of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from avil_fast.engine.data_parallel import DataParallelEngine
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.parameters import Granularity, device_of
from avil_fast.engine.partitioned import PartitionedEngine
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.settings import EngineSettings
from avil_fast.engine.zero.config import ZeroConfig, read, resolve
from avil_fast.errors import AvilError
from avil_fast.tasks.task import Task

if TYPE_CHECKING:
    from avil_fast.config import TrainConfig


def zero_of(config: TrainConfig, ranks: int) -> ZeroConfig | None:
    """The DeepSpeed file that a run names, checked against it; None if it names none.

    Raises:
        AvilError: the file cannot be used, or a setting needs ZeRO and there is none.
    """
    pieces = ranks * config.gradient_accumulation_steps
    if config.batch_size < pieces:
        raise AvilError(
            f"batch_size is {config.batch_size}, but {ranks} ranks with gradient_accumulation_steps "
            f"{config.gradient_accumulation_steps} need {pieces} or more; set batch_size={pieces}"
        )
    zero = None
    if config.deepspeed is not None:
        zero = resolve(read(config.deepspeed), config, ranks, config.deepspeed.name)
    if config.optimizer.backend == "deepspeed" and (zero is None or zero.stage == 0):
        raise AvilError(
            "optimizer.backend is 'deepspeed', but this run has no ZeRO stage 1, 2 or 3; set "
            "optimizer.backend=torch, or give --deepspeed_config configs/zero2.json"
        )
    return zero


def make_engine(
    model: nn.Module,
    tasks: Sequence[Task],
    target: int,
    config: TrainConfig,
    ranks: Ranks,
    granularity: Granularity = "model",
    keeps_deltas: bool = True,
) -> PartitionedEngine:
    """The engine for a run on these ranks.

    Args:
        granularity: what has coefficients of its own, as the run's method needs it.
        keeps_deltas: whether the run's method keeps deltas, and so needs a bank.

    Raises:
        AvilError: see `zero_of` and the engines.
    """
    zero = zero_of(config, ranks.size)
    settings = EngineSettings(
        optimizer=config.optimizer,
        deltas=config.deltas,
        scale_target_head=config.alpha.target_head == "scaled",
        parts=config.gradient_accumulation_steps,
        keeps_deltas=keeps_deltas,
        granularity=granularity,
    )
    if zero is not None and zero.bf16:
        model.to(torch.bfloat16)  # with its buffers, on which DeepSpeed has no opinion
    if zero is not None and zero.stage > 0:
        from avil_fast.engine.zero.engine import ZeroEngine

        return ZeroEngine(model, tasks, target, settings, ranks, device_of(model), zero)
    kind = LocalEngine if ranks.size == 1 else DataParallelEngine
    return kind(model, tasks, target, settings, ranks)
