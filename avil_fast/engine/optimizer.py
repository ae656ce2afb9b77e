"""The optimizer of one task, over flat partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from avil_fast.engine.partition import Partition

if TYPE_CHECKING:
    from avil_fast.config import OptimizerConfig


class TaskOptimizer:
    """Steps the partitions that a task trains, with moments that are the task's own.

    Moments shared across tasks leak from one task into the next and cost accuracy; they are kept per
    task (`per_task`) or dropped when the task ends (`reset`).
    """

    def __init__(self, partitions: Sequence[Partition], config: OptimizerConfig) -> None:
        self._partitions = partitions
        self._config = config
        parameters = [partition.trained for partition in partitions]
        self._torch: torch.optim.Optimizer
        match config.name:
            case "sgd":
                self._torch = torch.optim.SGD(
                    parameters, config.lr, momentum=config.momentum, weight_decay=config.weight_decay
                )
            case "adam" | "adamw":
                kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
                self._torch = kind(
                    parameters,
                    config.lr,
                    betas=config.betas,
                    eps=config.eps,
                    weight_decay=config.weight_decay,
                )

    def step(self, lr_scale: float) -> None:
        for partition in self._partitions:
            partition.attach_grad()
        if self._config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([p.trained for p in self._partitions], self._config.clip_norm)
        for group in self._torch.param_groups:
            group["lr"] = lr_scale * self._config.lr
        self._torch.step()
        for partition in self._partitions:
            partition.push()

    def end_task(self) -> None:
        """Drop the moments if they are to start afresh, and the memory they took."""
        if self._config.moments == "reset":
            self._torch.state.clear()
