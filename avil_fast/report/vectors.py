"""The task vectors of a run's kept round: the model as it was when the round began, and as each task left it.

In the run's folder, in fp32 and with the names of the folder `model`: base/, tasks/0/, tasks/1/..., and in
about.json which round it was, the tasks and their α.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from avil_fast.engine.base import Engine
from avil_fast.engine.whole_tensors import overlaid
from avil_fast.errors import reason
from avil_fast.files.replacing import replace_folder
from avil_fast.report.weights import write_weights
from avil_fast.tasks.model_format import ModelFormat, Named

FOLDER, ABOUT = "task_vectors", "about.json"
BASE, TASKS = "base", "tasks"


class TaskVectors:
    """Those of the best round so far; a new best one replaces them once it is written. All ranks take part.

    Args:
        run: the run's folder; None on all ranks but the first.
        engine: has the deltas.
        model_format: how the model is saved.
    """

    def __init__(self, run: Path | None, engine: Engine, model_format: ModelFormat) -> None:
        self._folder = run and run / FOLDER
        self._engine = engine
        self._model_format = model_format

    def keep(self, round_: int, alpha: Sequence[float]) -> None:
        """Write those of the round that has just been merged. Where the disk is full, training goes on without."""
        names = [task.name for task in self._engine.tasks]
        if not self._engine.has_deltas:
            self._warn(
                "task_vectors is true, but this round leaves no deltas, as no task trains by itself; use method: "
                "avil with alpha.settled: merge"
            )
            return
        about = {"round": round_, "tasks": names, "alpha": list(alpha)}
        with self._engine.spend("checkpoints"):
            self._write({BASE: None} | {f"{TASKS}/{i}": i for i in range(len(names))}, about)

    def require(self, round_: int) -> None:
        """Warn if a run that goes on from here has not those of its best round so far."""
        if self._folder is not None and round_ and read_about(self._folder).get("round") != round_:
            where = str(self._folder)
            self._warn(
                f"{where!r} has no task vectors of round {round_}, the best so far; a better round's follow"
            )

    def _write(self, models: dict[str, int | None], about: dict[str, Any]) -> None:
        """Models by folder: that of a task, or None for the base."""
        error: Exception | None = None
        partial = self._folder and self._folder.with_name(f"{FOLDER}.partial")
        for name, task in models.items():
            tensors = _in_fp32(_trained(self._engine, task))
            if partial is not None and error is None:
                try:
                    if task is None:
                        shutil.rmtree(partial, ignore_errors=True)
                    (partial / name).mkdir(parents=True)
                    write_weights(partial / name, self._model_format.tensors(tensors))
                except (OSError, SafetensorError) as failure:
                    error = failure
            deque(tensors, maxlen=0)  # to the end in any case, as the other ranks take part
        if partial is not None and error is None:
            try:
                self._put_in_place(partial, about)
            except OSError as failure:
                error = failure
        if error is not None:
            assert partial is not None
            shutil.rmtree(partial, ignore_errors=True)
            self._warn(
                f"the task vectors of round {about['round']} cannot be written: {reason(error)}; training goes on"
            )

    def _put_in_place(self, partial: Path, about: dict[str, Any]) -> None:
        assert self._folder is not None
        (partial / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        for path in (*partial.rglob("*.safetensors"), partial / ABOUT):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(self._folder.with_name(f"{FOLDER}.previous"), ignore_errors=True)  # of a run that was killed
        replace_folder(self._folder, partial)

    def _warn(self, message: str) -> None:
        if self._folder is not None:
            warnings.warn(message, stacklevel=2)


def read_about(folder: Path) -> dict[str, Any]:
    """What about.json says; {} where there are no vectors."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _trained(engine: Engine, task: int | None) -> Iterator[tuple[str, Tensor]]:
    """The parameters as they were when the round began, or as a task left them: θ + δ_i."""
    return engine.base() if task is None else overlaid(engine.base(), engine.deltas(task), torch.add)


def _in_fp32(tensors: Named) -> Iterator[tuple[str, Tensor]]:
    """So that small changes survive beside large weights, and where adapters are merged into them."""
    for name, tensor in tensors:
        yield name, tensor.float() if tensor.is_floating_point() else tensor
