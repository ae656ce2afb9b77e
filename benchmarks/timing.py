"""Seconds of several calls, taken in turn, so that a slow spell of the machine hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

SLOW, TURNS_OF_SLOW = 6, 2
"""What is this many times as slow as the fastest sits most turns out: a ratio of 6 or of 7 is the same news."""

HEAD_START = 1_000_000
"""Cycles, some half a millisecond, that a GPU waits before what is timed. By then the host has launched it; else
the host's time would stand in the figure of a call that is shorter."""


@dataclass(frozen=True)
class Call:
    """What is timed, and what must come before it each time, which is not."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def seconds_of(call: Call, device: torch.device) -> float:
    """Seconds of one call: the host's clock on the CPU, events on the device's stream on a GPU."""
    call.prepare()
    if device.type != "cuda":
        start = time.perf_counter()
        call.run()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda._sleep(HEAD_START)
    begin.record()
    call.run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def interleaved(calls: Mapping[str, Sequence[Call]], device: torch.device, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call in each of `repeats` turns.

    Args:
        calls: by name, the same call on different buffers: turn t takes the t-th of them, round and round,
            so that no turn finds the last one's data in a cache.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    first = {name: seconds_of(variants[0], device) for name, variants in calls.items()}
    slow = {name for name in calls if first[name] > SLOW * min(first.values())}
    for turn in range(repeats):
        for name, variants in calls.items():
            if name not in slow or turn < TURNS_OF_SLOW:
                seconds[name].append(seconds_of(variants[turn % len(variants)], device))
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median over turns of a quotient of two calls' seconds in the same turn."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=False))
