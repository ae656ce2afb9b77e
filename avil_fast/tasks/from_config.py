"""From the `tasks` section of a config to tasks and a model."""

from __future__ import annotations

from torch import nn

from avil_fast.config import Config, IdxConfig
from avil_fast.tasks.task import Task


def build(config: Config) -> tuple[nn.Module, list[Task]]:
    """The tasks that a config describes and a fresh model for them, the same for the same seed."""
    if isinstance(config.tasks, IdxConfig):
        from avil_fast.tasks import idx

        return idx.build(config.tasks, config.model, config.seed)
    from avil_fast.tasks import digits

    return digits.build(config.tasks, config.model, config.seed)
