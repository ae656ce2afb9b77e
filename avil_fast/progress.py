"""Progress of a run while it trains: a bar for a terminal, and lines for a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from avil_fast.observer import Observer, Rows
from avil_fast.report.headline_metric import SEEN, held_out

READ_EVERY = 0.5
"""Seconds between two looks at a loss, each of which waits for the device."""

LINE_EVERY = 5.0
"""Seconds between two lines that are no terminal's."""

BAR_WIDTH = 24
"""Characters."""


@contextmanager
def reporting(method: str, rounds: int, console: rich.console.Console) -> Iterator[Observer]:
    """On a terminal a line with round, task, step, loss, α and the time that is left; else a line per round."""
    if not console.is_terminal:
        yield _Lines(method, rounds, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=BAR_WIDTH),
        TextColumn("{task.fields[where]}"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[alpha]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(method, rounds, console, progress)


class _Counting(Observer):
    """Counts rounds and steps, and tells from their pace how long the rest takes."""

    def __init__(self, method: str, rounds: int, console: rich.console.Console) -> None:
        self._method, self._rounds, self._console = method, rounds, console
        self._per_round = self._total = 1
        self._done = 0
        """Rounds."""
        self._first = 0
        """Steps that were done before this process began."""
        self._began = time.monotonic()

    def planned(self, steps: int, finetune: int) -> None:
        self._per_round, self._total = steps, self._rounds * steps + finetune
        self._first = self._done * steps

    def resumed(self, checkpoint: Path, where: dict[str, Any], history: Rows) -> None:
        self._done = len(history)
        self._say(f"going on from {checkpoint}: {in_words(where)}")

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, soft_wrap=True, markup=False)

    def _left(self, done: int, now: float) -> str:
        """The time until the end, when so many steps are done; empty if there is no telling."""
        taken, here = now - self._began, done - self._first
        return f"{clock(taken / here * (self._total - done))} left" if here > 0 else ""


class _Bar(_Counting):
    def __init__(self, method: str, rounds: int, console: rich.console.Console, progress: Progress) -> None:
        super().__init__(method, rounds, console)
        self._progress = progress
        self._line = progress.add_task(method, total=1, where="", left="", alpha="")
        self._in_round = 0
        self._read = self._began
        self._loss = ""
        self._alpha: dict[str, float] = {}
        self._widest = 0
        """Characters of the longest text beside the bar so far, so that α does not flicker."""

    def planned(self, steps: int, finetune: int) -> None:
        super().planned(steps, finetune)
        self._progress.update(self._line, total=self._total, completed=self._first)

    def progress(self, task: str, step: int, steps: int, loss: Tensor) -> None:
        self._in_round += 1
        now = time.monotonic()
        if now - self._read > READ_EVERY or not self._loss:
            self._read, self._loss = now, f"{float(loss):.3f}"
        done = self._done * self._per_round + self._in_round
        place = task if self._done == self._rounds else f"round {self._done + 1}/{self._rounds} {task}"
        self._show(done, f"{place} {step}/{steps}, loss {self._loss}", now)

    def round(self, row: dict[str, Any]) -> None:
        self._done, self._in_round = row["round"], 0
        self._alpha = _learned(row)
        where = f"round {self._done}/{self._rounds} done, {_found(row)}"
        self._show(self._done * self._per_round, where, time.monotonic())

    def _show(self, done: int, where: str, now: float) -> None:
        done = min(done, self._total)
        left = self._left(done, now)
        self._widest = max(self._widest, len(f"{where} {left}"))
        self._progress.update(self._line, completed=done, where=where, left=left, alpha=self._alpha_shown())

    def _alpha_shown(self) -> str:
        """α by task, with their names if there is room for them."""
        if not self._alpha:
            return ""
        named = "α " + ", ".join(f"{name} {value:.2f}" for name, value in self._alpha.items())
        room = self._console.width - len(self._method) - BAR_WIDTH - self._widest - 3
        return named if len(named) <= room else "α " + " ".join(f"{value:.2f}" for value in self._alpha.values())


class _Lines(_Counting):
    """For a file: a line at the start, then one a round, but only one in some seconds until the last."""

    def __init__(self, method: str, rounds: int, console: rich.console.Console) -> None:
        super().__init__(method, rounds, console)
        self._said = self._began

    def planned(self, steps: int, finetune: int) -> None:
        super().planned(steps, finetune)
        rounds = f"{self._rounds} round{'s' * (self._rounds > 1)} of about {steps} steps"
        self._say(f"{self._method}: {rounds}" + (f", then {finetune} steps of fine-tune" if finetune else ""))

    def round(self, row: dict[str, Any]) -> None:
        self._done, now = row["round"], time.monotonic()
        if now - self._said < LINE_EVERY and self._done < self._rounds:
            return
        self._said = now
        done = self._done * self._per_round
        left = self._left(done, now) if done < self._total else ""
        about = f", about {left}" if left else ""
        self._say(f"{self._method}: round {self._done} of {self._rounds}, {_found(row)}{about}")


def _found(row: dict[str, Any]) -> str:
    """The dev loss of a round, and how many of its steps were rejected."""
    rejected = sum(row["rejected_steps"].values())
    seen = "" if held_out(row) else f" ({SEEN})"
    return f"dev loss {row['dev_loss']:.3f}{seen}" + (
        f", {rejected} step{'s' * (rejected > 1)} rejected" if rejected else ""
    )


def _learned(row: dict[str, Any]) -> dict[str, float]:
    """α of the tasks after a round; nothing where a method has only what to train on, and no α."""
    alpha = {name: value for name, value in row["alpha"].items() if value is not None}
    return alpha if row["alpha_path"] or set(alpha.values()) - {0.0, 1.0} else {}


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as h:mm:ss, or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_words(where: dict[str, Any]) -> str:
    """Round, phase, task and step."""
    words = [f"round {where['round']}", where["phase"]]
    return ", ".join([*words, *(f"{what} {where[what]}" for what in ("task", "epoch", "step") if what in where)])
