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
        """A second signal does not wait, unless there is a launcher, which may send several."""
        if self.signal and "WORLD_SIZE" not in os.environ:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.signal = self.signal or number


@contextmanager
def noting() -> Iterator[Stop]:
    """Note signals within; outside of the main thread, which alone can, there will be none."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop.note) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
