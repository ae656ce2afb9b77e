"""What a run prints on stdout: tables and JSON lines. The run goes on where stdout cannot be written."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import rich.console

from avil_fast.errors import reason
from avil_fast.observer import Observer, Rows


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
