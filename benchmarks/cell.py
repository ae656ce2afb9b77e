"""A cell of a benchmark's table: one operation on one kind of bank, beside its roof."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.timing import ratio

HEADER = f"{'operation':14} {'codec':5} {'n':>3} {'GB':>6} {'GB/s':>7} {'roof':>6}"


@dataclass
class Cell:
    """What every table tells."""

    op: str
    codec: str
    n: int
    bytes: int
    milliseconds: float
    gbps: float
    roof_gbps: float
    percent_of_roof: float


def against_roof(ours: Sequence[float], roof: Sequence[float], nbytes: int, moved: int) -> dict[str, Any]:
    """The figures of a `Cell` from seconds that were taken in turns.

    Args:
        ours, roof: seconds of the operation, which moves `nbytes`, and of the roof, which moves `moved`.
    """
    seconds = statistics.median(ours)
    return {
        "bytes": nbytes,
        "milliseconds": seconds * 1e3,
        "gbps": nbytes / seconds / 1e9,
        "roof_gbps": moved / statistics.median(roof) / 1e9,
        "percent_of_roof": 100 * ratio(roof, ours) * nbytes / moved,
    }


def line(cell: Cell) -> str:
    """A cell under `HEADER`."""
    return (
        f"{cell.op:14} {cell.codec:5} {cell.n:>3} {cell.bytes / 1e9:6.2f} {cell.gbps:7.1f} "
        f"{cell.percent_of_roof:5.0f}%"
    )
