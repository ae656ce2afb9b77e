"""From the `tasks` and `model` sections of a config to tasks and a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from avil_fast.config import Config, ConvNetConfig, EncoderConfig, IdxConfig, SentimentConfig
from avil_fast.tasks.task import Task


def build(config: Config, zero3: Mapping[str, Any] | None = None) -> tuple[nn.Module, list[Task]]:
    """The tasks that a config describes and a fresh model for them, the same for the same seed.

    Args:
        config: a checked configuration.
        zero3: DeepSpeed's configuration where ZeRO stage 3 is on. The process group must be up; an encoder
            is then loaded without ever being whole on one rank. Other models are small and come whole.
    """
    if isinstance(config.tasks, SentimentConfig):
        from avil_fast.tasks import sentiment

        assert isinstance(config.model, EncoderConfig)
        return sentiment.build(config.tasks, config.model, config.target, config.seed, zero3)
    assert isinstance(config.model, ConvNetConfig)
    if isinstance(config.tasks, IdxConfig):
        from avil_fast.tasks import idx

        return idx.build(config.tasks, config.model, config.seed)
    from avil_fast.tasks import digits

    return digits.build(config.tasks, config.model, config.seed)
