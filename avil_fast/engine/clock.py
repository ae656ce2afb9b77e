"""Wall time by part of a round, each second counted once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PARTS = {
    "data": "loading data",
    "task_training": "task training",
    "alpha_phase": "α phase",
    "delta_ops": "delta operations",
    "evaluation": "evaluation",
    "checkpoints": "saving",
}
"""What each is called for people."""


class Clock:
    """Adds up seconds by part; time in an inner part is not counted for the outer one.

    Args:
        synchronize: waits for the device. Called at the borders of a part, except of `data`, which the
            device does not take part in.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self._synchronize = synchronize
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._stack: list[str] = []
        self._last = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time within as a part's."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def enter(self, name: str) -> None:
        """Begin a part; for one that does not fit a `with` block."""
        self._turn(name)
        self._stack.append(name)

    def leave(self) -> None:
        """End the part that was entered last; what is around it goes on."""
        self._turn(self._stack[-1])
        self._stack.pop()

    def take(self) -> dict[str, float]:
        """The seconds so far, and start again from zero."""
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        return seconds

    def _turn(self, name: str) -> None:
        if name != "data":
            self._synchronize()
        now = time.perf_counter()
        if self._stack:
            self._seconds[self._stack[-1]] += now - self._last
        self._last = now
