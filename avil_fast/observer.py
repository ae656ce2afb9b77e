"""Whoever is told how a run goes: a terminal, a log, the live page, a Trainer's callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

Rows = Sequence[dict[str, Any]]
"""Lines of metrics.jsonl."""


class Observer:
    """Is told how a run goes. Does nothing itself."""

    on_all_ranks = False
    """Told on every rank, not on the first alone."""

    def resumed(self, checkpoint: Path, where: dict[str, Any], history: Rows) -> None:
        """Before the first step of a run that goes on from a checkpoint: where that was made, and its lines of
        metrics, one for each round that is done."""

    def planned(self, steps: int, finetune: int) -> None:
        """Before the first step: about how many optimizer steps a round takes, and the fine-tune."""

    def progress(self, task: str, step: int, steps: int, loss: Tensor) -> None:
        """After every optimizer step.

        Args:
            task: its name, or "fine-tune".
            step: of the task's in this round, from 1.
            steps: all of these.
            loss: of this rank's share of the batch; a scalar on the device, which to read waits for it.
        """

    def round(self, row: dict[str, Any]) -> None:
        """After every round, with its line of metrics."""

    def enough(self) -> bool:
        """After every round and every epoch of the fine-tune: whether the run ends here, with its best model."""
        return False


class Observers(Observer):
    """Hands everything on to several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        self.on_all_ranks = any(observer.on_all_ranks for observer in observers)

    def resumed(self, checkpoint: Path, where: dict[str, Any], history: Rows) -> None:
        for observer in self._observers:
            observer.resumed(checkpoint, where, history)

    def planned(self, steps: int, finetune: int) -> None:
        for observer in self._observers:
            observer.planned(steps, finetune)

    def progress(self, task: str, step: int, steps: int, loss: Tensor) -> None:
        for observer in self._observers:
            observer.progress(task, step, steps, loss)

    def round(self, row: dict[str, Any]) -> None:
        for observer in self._observers:
            observer.round(row)

    def enough(self) -> bool:
        enough = [observer.enough() for observer in self._observers]  # all of them are asked
        return any(enough)
