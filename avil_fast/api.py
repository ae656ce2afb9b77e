"""The Python face: tasks in, a better target model out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from avil_fast.checkpoint.resume import as_resume
from avil_fast.config import from_dotted
from avil_fast.errors import told_in
from avil_fast.run.training import Result, train
from avil_fast.tasks.task import Task

__all__ = ["Result", "Task", "fit"]

_WORDS = {"--resume auto": "resume='auto'", "--resume": "resume"}
"""The command's words for the arguments of `fit`, and how they are given here."""


def fit(
    model: nn.Module, tasks: Sequence[Task], target: str, resume: str | Path | None = None, **options: Any
) -> Result:
    """Train `model` for the target with the help of the other tasks.

    Args:
        model: any module on one device; trained in place.
        tasks: the target and its auxiliaries, at most 64.
        target: name of the target; it needs a dev set.
        resume: "auto" goes on from the newest checkpoint in `output_dir`, if there is one; a path from
            that one, or from the newest of that run.
            Give the same model, tasks and settings as before; what the model holds is overwritten.
        **options: settings of `TrainConfig`, dotted names as keys: `fit(..., rounds=10, **{"alpha.lr": 0.1})`.
            Nothing is written unless `output_dir` is given.

    Raises:
        AvilError: a setting, a task, the data or the checkpoint is wrong; says what and what to do.
        Stopped: SIGINT or SIGTERM came, and the run was saved in `output_dir`.
    """
    config = from_dotted({"target": target, "output_dir": None} | options)
    with told_in(_WORDS):
        return train(model, tasks, config, resume=as_resume(resume))
