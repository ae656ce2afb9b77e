"""A round's base and deltas as an engine hands them out, and the θ that the round came to."""

from __future__ import annotations

import errno
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from avil_fast.report import vectors as vectors_of_a_run
from tests.engine.ranks.cases import TARGET, Case, theta
from tests.engine.ranks.resume import EVERY_POINT, fit
from tests.engine.ranks.worker import engine_of

ALPHA = [1.0, 0.7, -0.4]


@dataclass(frozen=True)
class VectorsCase:
    """Two rounds, of which the second is looked at."""

    case: Case

    def __call__(self, ranks: Ranks) -> dict[str, Any]:
        engine = engine_of(self.case, ranks)
        found = vectors(engine)
        engine.close()
        return found


def vectors(engine: Engine) -> dict[str, Any]:
    """θ before and after the second round, and what the engine says these were."""
    found: dict[str, Any] = {}
    for round_ in range(2):
        found["before"] = theta(engine)
        engine.begin_round()
        found["none"] = engine.has_deltas
        for i, task in enumerate(engine.tasks):
            engine.begin_task(i, seed=round_)
            for batch in engine.fetch(task.train):
                engine.train_step(batch)
            engine.end_task()
        engine.apply([1.0, 1.0, 1.0])
        engine.target_gradient(engine.tasks[TARGET].dev or [])
        engine.merge(ALPHA)
    engine.evaluate(TARGET, engine.tasks[TARGET].dev or [])
    found["all"] = engine.has_deltas
    found["base"] = copied(engine.base())
    found["deltas"] = [copied(engine.deltas(task)) for task in range(3)]
    found["after"] = theta(engine)
    return found


def copied(tensors: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors}


@dataclass(frozen=True)
class KeptRun:
    """A run that keeps its task vectors, and the same run taken up in the α phase of its last round."""

    case: Case
    where: Path

    def __call__(self, ranks: Ranks) -> None:
        options = {"task_vectors": True, "keep": "last", "rounds": 2}
        whole = self.where / "whole"
        fit(self.case, self.where, output_dir=whole, **options, **EVERY_POINT)
        point = next(
            path
            for path in Folder(whole / "checkpoints").all()
            if Manifest.read(path).where == {"round": 2, "phase": "α", "step": 1}
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* has no task vectors of round 1, the best so far")
            fit(self.case, self.where, output_dir=self.where / "taken-up", resume=point, **options)


@dataclass(frozen=True)
class FullDisk:
    """A run whose first rank finds no room for the second file of task vectors."""

    case: Case
    where: Path

    def __call__(self, ranks: Ranks) -> list[str]:
        written = vectors_of_a_run.write_weights
        calls: list[Path] = []

        def write(folder: Path, tensors: Any) -> None:
            calls.append(folder)
            if len(calls) == 2:
                next(iter(tensors))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written(folder, tensors)

        vectors_of_a_run.write_weights = write  # type: ignore[attr-defined]
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                fit(self.case, self.where, output_dir=self.where / "run", task_vectors=True, rounds=1)
        finally:
            vectors_of_a_run.write_weights = written  # type: ignore[attr-defined]
        return [str(warning.message) for warning in told if "task vectors" in str(warning.message)]
