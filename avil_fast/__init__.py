"""avil_fast: train a model for one target task and learn which auxiliary datasets help.

The method is αVIL (arXiv 2405.07769). `fit` trains any `nn.Module` on `Task`s and returns a `Result`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avil_fast.api import fit
    from avil_fast.errors import AvilError, Stopped
    from avil_fast.run.training import Result
    from avil_fast.tasks.task import Scorer, Task
    from avil_fast.trainer.trainer import AvilTrainer

__all__ = ["AvilError", "AvilTrainer", "Result", "Scorer", "Stopped", "Task", "fit"]

_HOMES = {
    "AvilError": "avil_fast.errors",
    "AvilTrainer": "avil_fast.trainer.trainer",
    "Result": "avil_fast.run.training",
    "Scorer": "avil_fast.tasks.task",
    "Stopped": "avil_fast.errors",
    "Task": "avil_fast.tasks.task",
    "fit": "avil_fast.api",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `avil-fast --help` and the operations alone need little of this package."""
    if name not in _HOMES:
        raise AttributeError(f"module 'avil_fast' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
