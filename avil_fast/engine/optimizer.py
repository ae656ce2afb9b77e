"""The optimizer of one task, over flat partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from avil_fast.engine.partition import Partition

if TYPE_CHECKING:
    from avil_fast.config import OptimizerConfig


def of_torch(config: OptimizerConfig) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """torch's optimizer for these settings, and its options."""
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.name == "sgd":
        return torch.optim.SGD, options | {"momentum": config.momentum}
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind, options | {"betas": config.betas, "eps": config.eps}


class TaskOptimizer:
    """Steps the partitions that a task trains, with moments that are the task's own.

    Moments shared across tasks leak from one task into the next and cost accuracy; they are kept per
    task (`per_task`) or dropped when the task ends (`reset`).
    """

    def __init__(self, partitions: Sequence[Partition], config: OptimizerConfig) -> None:
        self._partitions = partitions
        self._config = config
        parameters = [partition.trained for partition in partitions]
        kind, options = of_torch(config)
        self._torch = kind(parameters, **options)

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
