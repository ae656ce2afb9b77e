"""What a run's settings say to an engine, whichever trains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from avil_fast.engine.parameters import Granularity

if TYPE_CHECKING:
    from avil_fast.config import DeltasConfig, OptimizerConfig


@dataclass(frozen=True)
class EngineSettings:
    """How an engine trains and keeps deltas."""

    optimizer: OptimizerConfig
    """The tasks' optimizer."""
    deltas: DeltasConfig
    """How banks store deltas, and where."""
    scale_target_head: bool = False
    """The target's head takes part in δ of the target, and so in α."""
    parts: int = 1
    """Pieces in which a rank takes its share of a training batch (gradient accumulation)."""
    granularity: Granularity = "model"
    """What has coefficients of its own: the model, or each layer."""
    keeps_deltas: bool = True
    """Whether rounds keep deltas at all; else there is no bank."""
