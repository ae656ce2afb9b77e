"""A staging buffer: memory on the device that the stream of copies and that of the computation use in turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def copy_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A side stream for copies; None on the CPU, where everything happens in the order in which it is called."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]  # torch's own


def compute_stream(device: torch.device) -> torch.cuda.Stream | None:
    """The stream that the caller computes in."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


class Staging:
    """Bytes on the device, and the event that hands them from one stream to the next.

    Args:
        nbytes: how many.
        device: where.
        copies: the side stream that will use them besides the current one.
    """

    def __init__(self, nbytes: int, device: torch.device, copies: torch.cuda.Stream | None) -> None:
        self.bytes = torch.empty(nbytes, dtype=torch.uint8, device=device)
        if copies is not None:
            self.bytes.record_stream(copies)  # when freed, not handed out again before the copies are over
            # What had this memory before may still be at work in the current stream.
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's own
            self._done.record(torch.cuda.current_stream(device))

    @contextmanager
    def turn(self, stream: torch.cuda.Stream | None) -> Iterator[None]:
        """What is called within runs in `stream`, after all of the turn before. The host waits for nothing."""
        if stream is None:
            yield
            return
        with torch.cuda.stream(stream):
            stream.wait_event(self._done)
            try:
                yield
            finally:
                self._done.record(stream)
