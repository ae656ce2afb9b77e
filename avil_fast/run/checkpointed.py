"""A run that is saved as it goes on, and goes on from where another was saved."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

from avil_fast.checkpoint.resume import take_up
from avil_fast.checkpoint.saver import RunState, Saver
from avil_fast.checkpoint.stop import Stop
from avil_fast.config import TrainConfig
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from avil_fast.methods.loop import TrainingRun
from avil_fast.methods.turn import Hooks
from avil_fast.observer import Observer
from avil_fast.report.vectors import TaskVectors
from avil_fast.run.storage import RunStorage
from avil_fast.tasks.data_kinds import about_data
from avil_fast.tasks.model_format import ModelFormat
from avil_fast.tasks.task import Task


class CheckpointedRun:
    """A run that is saved at its points. Made on all ranks.

    The constructor loads the checkpoint that the run goes on from, if there is one, into the engine and the run; a
    run that is taken up in another folder, or with other baselines, is saved at once.

    Args:
        engine: of a model that has not been trained; what it holds is overwritten by a checkpoint.
        tasks: all of the run's, also those that its method does not train.
        config: its settings, which every checkpoint holds.
        ranks: those that train together.
        storage: where it is saved, and the checkpoints that it may go on from.
        baselines: summaries that are to be in every checkpoint.
        observer: is told how the run goes.
        stop: the signal that ends the run, once it is noted.
        model_format: how the model is saved.

    Raises:
        AvilError: the checkpoint is damaged or of another run, or with `auto` all of them are.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: Sequence[Task],
        config: TrainConfig,
        ranks: Ranks,
        storage: RunStorage,
        baselines: dict[str, dict[str, Any]],
        observer: Observer,
        stop: Stop,
        model_format: ModelFormat,
    ) -> None:
        self._saver: Saver | None = None
        vectors: TaskVectors | None = None
        if config.task_vectors and config.output_dir is not None:
            vectors = TaskVectors(storage.folder.path if storage.folder else None, engine, model_format)

        def enough() -> bool:
            return ranks.max(int(observer.enough())) != [0]

        hooks = Hooks(
            progress=observer.progress,
            planned=observer.planned,
            point=self._point,
            rounds_done=self._keep,
            enough=enough,
        )
        self.run = TrainingRun(engine, config, hooks, observer.round, *([vectors.keep] if vectors else []))
        settings, sizes = config.model_dump(mode="json"), [about_data(task) for task in tasks]
        taken = take_up(storage.candidates, storage.resume, engine, ranks, settings, sizes)
        if taken is not None:
            path, manifest, best = taken
            self.run.load(manifest.run, best)
            engine.take_seconds()  # no part of the round that goes on
            observer.resumed(path, manifest.where, self.run.history)
            if vectors is not None:
                vectors.require(manifest.run["best_round"])
        if storage.checkpoints is None:
            return
        about = {
            "version": importlib.metadata.version("avil-fast"),
            "engine": engine.name,
            "config": settings,
            "tasks": sizes,
            "extra": {"baselines": baselines},
        }
        self._saver = Saver(storage.checkpoints, engine, ranks, config.checkpoints, stop, about)
        saved_baselines = taken[1].extra["baselines"] if taken else {}
        elsewhere = taken is not None and taken[0].resolve().parent != storage.checkpoints.path.resolve()
        if self._saver.saves_periodically and (elsewhere or baselines != saved_baselines):
            self._saver.save(self._state())  # so that no baseline is run again, and `auto` finds the run here
            self._saver.finish()
            if ranks.first and self._saver.saved:
                storage.forget_baselines()

    def finish(self) -> dict[str, Any]:
        """Wait for what is being written; what it all took: number, bytes of the first rank, seconds."""
        if self._saver is None:
            return {"saved": 0, "bytes": 0, "seconds": 0.0}
        self._saver.finish()
        return {"saved": self._saver.saved, "bytes": self._saver.nbytes, "seconds": self._saver.seconds}

    def abandon(self) -> None:
        """After a failure: wait for what this rank is writing."""
        if self._saver is not None:
            self._saver.abandon()

    def _point(self) -> None:
        if self._saver is not None:
            self._saver.point(self._state)

    def _keep(self) -> None:
        if self._saver is not None and self._saver.saves_periodically:
            self._saver.save(self._state(), lasting=True)

    def _state(self) -> RunState:
        return RunState(self.run.where(), self.run.state(), self.run.best.snapshot)
