"""Progress of a run while it trains: for a terminal, and as JSON lines."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import rich.console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from avil_fast.errors import reason
from avil_fast.observer import Observer, Rows

READ_EVERY = 0.5
"""Seconds between two looks at a loss, each of which waits for the device."""


@contextmanager
def bar(method: str, rounds: int, console: rich.console.Console) -> Iterator[Observer]:
    """A line with round, task, step, loss, α and the time that is left; nothing unless it is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[where]}"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[alpha]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        line = progress.add_task(method, total=1, where="", left="", alpha="")
        yield _Bar(progress, line, rounds)


class _Bar(Observer):
    def __init__(self, progress: Progress, line: Any, rounds: int) -> None:
        self._progress, self._line, self._rounds = progress, line, rounds
        self._per_round = self._total = 1
        self._done = self._in_round = 0
        self._first = 0
        """Steps that were done before this process began."""
        self._began = self._read = time.monotonic()
        self._loss = ""

    def planned(self, steps: int, finetune: int) -> None:
        self._per_round, self._total = steps, self._rounds * steps + finetune
        self._first = self._done * steps
        self._progress.update(self._line, total=self._total, completed=self._first)

    def resumed(self, checkpoint: Path, where: dict[str, Any], history: Rows) -> None:
        self._done = len(history)
        sentence = f"going on from {checkpoint}: {in_words(where)}"
        self._progress.console.print(sentence, soft_wrap=True, markup=False)

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
        alpha = " ".join(f"{value:.2f}" for value in row["alpha"].values() if value is not None)
        self._progress.update(self._line, alpha=f"α {alpha}")
        rejected = sum(row["rejected_steps"].values())
        more = f", {rejected} steps rejected" if rejected else ""
        where = f"round {self._done}/{self._rounds} done, dev loss {row['dev_loss']:.3f}{more}"
        self._show(self._done * self._per_round, where, time.monotonic())

    def _show(self, done: int, where: str, now: float) -> None:
        done = min(done, self._total)
        taken, here = now - self._began, done - self._first
        left = f"{clock(taken / here * (self._total - done))} left" if here > 0 else ""
        self._progress.update(self._line, completed=done, where=where, left=left)


class JsonLines(Observer):
    """A line of JSON on stdout for what happens: where a run went on, and every round."""

    def __init__(self, method: str) -> None:
        self._method = method

    def resumed(self, checkpoint: Path, where: dict[str, Any], history: Rows) -> None:
        self._say("resumed", {"checkpoint": str(checkpoint), "where": where, "rounds": len(history)})

    def round(self, row: dict[str, Any]) -> None:
        self._say("round", row)

    def result(self, summary: dict[str, Any], folder: Path | None) -> None:
        """What the run came to."""
        self._say("result", {"output_dir": None if folder is None else str(folder), "summary": summary})

    def _say(self, event: str, what: dict[str, Any]) -> None:
        try:
            print(json.dumps({"event": event, "method": self._method} | what), flush=True)
        except OSError as error:
            give_up_stdout(error)


class RunConsole(rich.console.Console):
    """That of a run, which goes on where stdout cannot be written."""

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            self.quiet = True
            give_up_stdout(error)

    def on_broken_pipe(self) -> None:
        """For the handler above, where rich would end the process."""
        raise  # called while the error is handled


def give_up_stdout(error: OSError) -> None:
    """What is printed from now on is lost; that is told on stderr, if it can be."""
    with suppress(OSError), open(os.devnull, "wb") as nowhere:  # a stand-in for stdout may have no descriptor
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    with suppress(OSError):
        told = f"avil-fast: warning: stdout cannot be written: {reason(error)}; the run goes on without it"
        print(told, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as h:mm:ss, or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_words(where: dict[str, Any]) -> str:
    """Round, phase, task and step."""
    words = [f"round {where['round']}", where["phase"]]
    return ", ".join([*words, *(f"{what} {where[what]}" for what in ("task", "epoch", "step") if what in where)])
