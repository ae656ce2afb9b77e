"""A run's report while it goes on, served to this machine alone."""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from avil_fast.config import TrainConfig, dump
from avil_fast.errors import AvilError, reason
from avil_fast.observer import Observer, Rows
from avil_fast.report import page
from avil_fast.report.headline_metric import held_out
from avil_fast.report.live_server import HOST, Drawn, LiveServer
from avil_fast.report.summary import provisional_summary
from avil_fast.report.templates import template

_OPEN = 5.0
"""A page that asked so many seconds ago is open still, and the end of the run waits as long for it to be seen."""


class Live(Observer):
    """Serves the page of a run, as a context manager, and is told how the run goes.

    Whatever is done to draw a page is done in a thread of the server, when a browser asks for it; a run pays for
    no more than a list of its rounds.

    Args:
        config: of the run.
        tasks: their names.
        metric: what summary.json says of it.
        baselines: summaries to report beside it; more may come.
        port: on 127.0.0.1; any free one by default.
    """

    def __init__(
        self,
        config: TrainConfig,
        tasks: Sequence[str],
        metric: dict[str, Any] | None,
        baselines: dict[str, dict[str, Any]] | None = None,
        port: int = 0,
    ) -> None:
        self._config, self._tasks, self._metric = config, list(tasks), metric
        self._baselines = {} if baselines is None else baselines
        self._history: list[dict[str, Any]] = []
        self._before = ""
        """What goes on before the run's own first round."""
        self._summary: dict[str, Any] | None = None
        self._end = ""
        self._changed = threading.Lock()
        """Held for as long as it takes to change, or to copy, what a page is made of."""
        self._drawing = threading.Lock()
        self._drawn = Drawn("", b"", "", last=False)
        self._asked = -math.inf
        self._end_seen = threading.Event()
        self._port = port

    @property
    def address(self) -> str:
        """URL of the page; its secret token is the only access control."""
        return f"http://{HOST}:{self._server.server_port}/{self._server.token}/"

    def __enter__(self) -> Self:
        try:
            self._server = LiveServer(self, self._port)
        except (OSError, OverflowError) as error:
            raise AvilError(
                f"port {self._port} of {HOST} cannot be served: {reason(error)}; name another, or 0"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="live", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._end = self._end or ("ended" if kind is None else "stopped")
        try:
            if time.monotonic() - self._asked < _OPEN:
                self._end_seen.wait(_OPEN)
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def of_baseline(self, method: str, rounds: int) -> Observer:
        """Is told how a baseline goes, which trains before the run."""
        return _Baseline(self, method, rounds)

    def says_before(self, sentence: str) -> None:
        """What goes on before the run's own first round; empty: nothing but the run."""
        with self._changed:
            self._before = sentence

    def resumed(self, checkpoint: Path, where: dict[str, Any], history: Rows) -> None:
        with self._changed:
            self._history = list(history)

    def planned(self, steps: int, finetune: int) -> None:
        self.says_before("")

    def round(self, row: dict[str, Any]) -> None:
        with self._changed:
            self._history.append(row)

    def ended(self, summary: dict[str, Any]) -> None:
        """The run is finished: show what it came to."""
        with self._changed:
            self._summary, self._end = summary, "ended"

    def state(self) -> bytes:
        """How far the run is, as JSON, for a page to tell whether it is out of date."""
        with self._changed:
            version, said, end = self._version, self._said, self._end
        self._asked = time.monotonic()
        return json.dumps({"version": version, "said": said, "ended": bool(end)}).encode()

    def drawn(self) -> Drawn:
        """The page, which is drawn once for each version."""
        with self._drawing:
            with self._changed:
                version, said, history = self._version, self._said, list(self._history)
                summary, end = self._summary, self._end
            if self._drawn.version != version:
                live = page.LiveState(
                    nonce=secrets.token_urlsafe(16),
                    version=version,
                    said=said,
                    planned=0 if end else self._config.rounds,
                    kept=self._would_keep(history),
                )
                body = self._draw(summary, history, live).encode()
                self._drawn = Drawn(version, body, live.nonce, bool(end))
            return self._drawn

    def seen(self, drawn: Drawn) -> None:
        """A browser has this page."""
        if drawn.last:
            self._end_seen.set()

    def _draw(self, summary: dict[str, Any] | None, history: list[dict[str, Any]], live: page.LiveState) -> str:
        config = dump(self._config)
        why = "The numbers come with the first round."
        if history:
            try:
                if summary is None:
                    summary = provisional_summary(self._config, self._tasks, self._metric, history)
                    summary["baselines"] = self._baselines
                return page.render(summary, history, config, live)
            except Exception as error:  # of whatever kind: a page is no reason to stop a run
                why = f"This page cannot be drawn ({type(error).__name__}: {error}); the run is not harmed."
        waiting = template("waiting")
        return waiting.render(target=self._config.target, reason=why, config=config, live=live)

    def _would_keep(self, history: list[dict[str, Any]]) -> str:
        """What the round that would be kept now is."""
        judged = self._config.keep == "best" and all(map(held_out, history[-1:]))
        return "best so far" if judged else "latest"

    @property
    def _version(self) -> str:
        return f"{len(self._history)} {self._end or self._before}"

    @property
    def _said(self) -> str:
        done, planned = len(self._history), self._config.rounds
        if self._end == "ended":
            return "The run has ended."
        if self._end:
            return f"The run was stopped {f'after round {done}' if done else 'before its first round'}."
        if self._before:
            return self._before
        if done >= planned:
            return f"All {planned} rounds are done; the rest follows."
        return f"Round {done} of {planned} is done." if done else f"Waiting for round 1 of {planned}."


class _Baseline(Observer):
    """Tells the page of a run how far a baseline of it is."""

    def __init__(self, live: Live, method: str, rounds: int) -> None:
        self._live, self._method, self._rounds = live, method, rounds
        self._says(0)

    def resumed(self, checkpoint: Path, where: dict[str, Any], history: Rows) -> None:
        self._says(len(history))

    def round(self, row: dict[str, Any]) -> None:
        self._says(row["round"])

    def _says(self, done: int) -> None:
        at = f"round {done + 1} of {self._rounds}" if done < self._rounds else "its last round is done"
        self._live.says_before(f"The baseline {self._method} trains first: {at}.")
