"""SIGTERM and SIGINT during a run: noted at once, obeyed at the next point where the run can be saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Which signal was noted; 0 if none."""

    signal = 0

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """A second SIGINT does not wait, unless there is a launcher, which may send several."""
        if self.signal and number == signal.SIGINT and "WORLD_SIZE" not in os.environ:
            raise KeyboardInterrupt
        self.signal = self.signal or number


@contextmanager
def noting() -> Iterator[Stop]:
    """Note signals within; outside of the main thread, which alone can, there will be none."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
