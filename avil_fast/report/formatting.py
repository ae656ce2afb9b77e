"""Numbers as a page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal

from avil_fast.method_registry import METHODS, find

NONE = "–"


def number(value: float | None, percent: bool = False, digits: int = 3) -> str:
    """A metric, a loss or a coefficient."""
    if value is None:
        return NONE
    return f"{100 * value:.1f} %" if percent else f"{value:.{digits}f}"


def difference(value: float, other: float, percent: bool) -> str:
    """How far a value lies from another, in the digits that are shown; empty if they look the same."""
    size, unit = (f"{100 * abs(value - other):.1f}", " points") if percent else (f"{abs(value - other):.3f}", "")
    return f"{size}{unit} {'higher' if value > other else 'lower'}" if float(size) else ""


def size(value: float) -> str:
    """A change of a loss, without its sign, in two digits."""
    return f"{abs(value):.0f}" if abs(value) >= 100 else f"{abs(value):#.2g}".rstrip(".")


def memory(summary: Mapping[str, Any]) -> tuple[str, str]:
    """What θ and the deltas take on each rank, of a run that tells; none of deltas where its method keeps none."""
    nbytes = summary.get("memory")
    if not nbytes:
        return NONE, NONE
    return decimal(nbytes["base"]), decimal(nbytes["bank"]) if _keeps_deltas(summary["method"]) else NONE


def _keeps_deltas(method: str) -> bool:
    return method not in METHODS or find(method).keeps_deltas


def rejected(summary: Mapping[str, Any]) -> str:
    """A sentence on steps that changed nothing, as something was not finite; empty where there were none."""
    counts = {f"of {name}": count for name, count in summary.get("rejected_steps", {}).items()}
    counts["of the α phase"] = summary.get("rejected_alpha_steps", 0)
    steps = ", ".join(f"{count} {of}" for of, count in counts.items() if count)
    return f"Steps rejected, as loss or gradient was not finite: {steps}." if steps else ""
