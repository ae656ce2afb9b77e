"""From the `tasks` and `model` sections of a config to tasks and a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from avil_fast.config import Config
from avil_fast.config.model import ConvNetConfig
from avil_fast.config.pairs import IdxConfig
from avil_fast.config.text_tasks import TextTasksConfig
from avil_fast.tasks.model_format import ModelFormat
from avil_fast.tasks.task import Task


def build(config: Config, zero3: Mapping[str, Any] | None = None) -> tuple[nn.Module, list[Task], ModelFormat]:
    """The tasks that a config describes, a fresh model for them, the same for the same seed, and how to save it.

    Args:
        config: a checked configuration.
        zero3: DeepSpeed's configuration where ZeRO stage 3 is on. The process group must be up; a saved
            model of transformers is then loaded without ever being whole on one rank. Others come whole.
    """
    if isinstance(config.tasks, TextTasksConfig):
        from avil_fast.tasks.text import build as text

        assert not isinstance(config.model, ConvNetConfig)
        return text.build(config.tasks.by_name, config.model, config.target, config.seed, zero3)
    assert isinstance(config.model, ConvNetConfig)
    if isinstance(config.tasks, IdxConfig):
        from avil_fast.tasks import idx

        return *idx.build(config.tasks, config.model, config.seed), ModelFormat()
    from avil_fast.tasks import digits

    return *digits.build(config.tasks, config.model, config.seed), ModelFormat()
