"""SIGTERM and SIGINT during a run: noted at once, obeyed at the next point where the run can be saved."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from avil_fast.checkpoint.folder import Folder

SIGNALS = (signal.SIGINT, signal.SIGTERM)

STDERR = 2


class Stop:
    """Which signal was noted; 0 if none.

    Attributes:
        at_once: a second signal ended the run, which is not saved then.
    """

    signal = 0
    at_once = False

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """A second signal does not wait, unless there is a launcher, which may send several."""
        launched = "WORLD_SIZE" in os.environ
        if self.signal and not launched:
            self.at_once = True
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        if not self.signal:
            self.signal = number
            _tell("stopping after this step and saving" + ("" if launched else "; again: at once, without saving"))


def _tell(sentence: str) -> None:
    """A line on stderr, of one process alone; past the buffers, which a signal may have come in the middle of."""
    if os.environ.get("RANK", "0") == "0" and multiprocessing.parent_process() is None:
        below = "\n" if os.isatty(STDERR) else ""  # where ^C or the bar stands
        with suppress(OSError):
            os.write(STDERR, f"{below}avil-fast: {sentence}\n".encode())


@contextmanager
def noting(folder: Folder) -> Iterator[Stop]:
    """Note signals within; outside of the main thread, which alone can, there will be none.

    Args:
        folder: of the run's checkpoints; of a run that was stopped at once the newest is told.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # None is the handler of a program that Python runs within, which could not be put back.
    heard = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, stop.note) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if stop.at_once:
            last = folder.all()[-1:]
            found = f"it can go on from {last[0]}" if last else "there is no checkpoint"
            print(f"avil-fast: stopped without saving; {found}", file=sys.stderr, flush=True)
