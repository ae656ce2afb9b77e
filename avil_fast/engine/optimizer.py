"""The optimizer of one task, over flat partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avil_fast.engine.partition import Partition

if TYPE_CHECKING:
    from avil_fast.config import OptimizerConfig


def of_torch(config: OptimizerConfig) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """torch's optimizer for these settings, and its options.

    Fused it takes one pass over a partition: AdamW on 22.7 million parameters 15 ms instead of 79 on two cores.
    """
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    if config.name == "sgd":
        return torch.optim.SGD, options | {"momentum": config.momentum}
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind, options | {"betas": config.betas, "eps": config.eps}


def new_moments(like: Tensor, names: Sequence[str], step: int | None) -> dict[str, Any]:
    """The state of torch's optimizers for a tensor, to be filled; `step` None where they count none."""
    count = {} if step is None else {"step": torch.tensor(float(step), device=like.device)}
    return count | {name: torch.zeros_like(like.detach()) for name in names}


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

    def moments(self) -> list[dict[str, Any]]:
        """torch's state of each partition; empty ones before the first step."""
        return [self._torch.state.get(partition.trained, {}) for partition in self._partitions]

    def make_moments(self, names: Sequence[str], step: int | None) -> None:
        """Allocate the state of these tensors, after so many steps."""
        for partition in self._partitions:
            self._torch.state[partition.trained] = new_moments(partition.trained, names, step)

    def forget(self) -> None:
        """Drop the moments."""
        self._torch.state.clear()

    def end_task(self) -> None:
        """Drop the moments if they are to start afresh, and the memory they took."""
        if self._config.moments == "reset":
            self.forget()
