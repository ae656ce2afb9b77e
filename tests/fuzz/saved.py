"""A small run that saves itself at every point, and what `inspect` says of a checkpoint as the command does."""

from __future__ import annotations

from typing import Any

from avil_fast.errors import AvilError
from tests.checkpoint.runs import EVERY_POINT

SHORT: dict[str, Any] = EVERY_POINT | {"rounds": 2, "finetune.epochs": 0, "steps_per_task": 2, "alpha.steps": 1}


def told(found: Any) -> None:
    """What `inspect` found, as its verb tells it."""
    if damage := getattr(found, "damage", None):
        raise AvilError("; ".join(damage))
