"""What a run made of each auxiliary, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avil_fast.report.formatting import number, size

_INFLUENCES = ((0.25, "set aside"), (0.9, "used in part"), (1.1, "used in full"), (math.inf, "turned up"))
"""What a run made of a task whose influence is below a bound; 1 is where every task starts."""

_LITTLE = 0.02
"""Of what the target's own updates did to its dev loss; what is less is no help."""


@dataclass(frozen=True)
class Verdict:
    """A sentence of three parts: a task's name, what became of it, and the numbers behind that."""

    name: str
    verdict: str
    reason: str
    helped: bool = False

    @property
    def at_once(self) -> bool:
        """Whether it is about what updates did within their rounds."""
        return self.verdict.endswith("at once")


def verdicts(summary: dict[str, Any], history: Sequence[dict[str, Any]]) -> list[Verdict]:
    """One for each auxiliary, in the order of the tasks."""
    moved = any(value != 1.0 for row in history for value in row["weight"].values())
    return [_verdict(summary, name, moved) for name in summary["tasks"] if name != summary["target"]]


def _trained(share: float) -> str:
    """How much of a task the rounds after α was settled trained on."""
    if share == 0:
        return "left out from then on"
    if share >= 1:
        return "trained for as many steps as the target"
    return f"trained for {max(1, round(100 * share))} % as many steps as the target"


def _verdict(summary: dict[str, Any], name: str, weights_moved: bool) -> Verdict:
    if summary["steps"].get(name) == 0:
        return Verdict(name, "was not trained", ".")
    alpha, influence = summary["alpha_mean"].get(name), summary["influence"].get(name)
    share = (summary.get("share_last") or {}).get(name)
    if share is not None:
        alpha = (summary.get("alpha_last") or {}).get(name, alpha)
    use = f"its {'mean α is' if share is None else 'α settled at'} {number(alpha, digits=2)}"
    if weights_moved:
        use += f" and its final weight {number(summary['weight_last'].get(name), digits=2)}"
    part = "" if influence is None else next(words for below, words in _INFLUENCES if influence < below)
    if share is not None:
        part = _trained(share)
    benefit: dict[str, float | None] = summary.get("benefit") or {}
    gain, own = benefit.get(name), benefit.get(summary["target"])
    if gain is None:
        return Verdict(name, f"was {part}" if part else "is an open question", f": {use}.")
    use += f", so that it was {part}" if part else ""
    if gain == 0:
        return Verdict(name, "made no difference", f": its updates left the target's dev loss as it was; {use}.")
    moved = f"{'lowered' if gain > 0 else 'raised'} the target's dev loss by {size(gain)} over the kept rounds"
    beside = f" (the target's own {'lowered' if own > 0 else 'raised'} it by {size(own)})" if own else ""
    reason = f": its updates {moved}{beside}; {use}."
    if abs(gain) < _LITTLE * abs(own or 0.0):
        return Verdict(name, "made little difference", reason)
    if gain > 0:
        return Verdict(name, "helped at once", reason, helped=True)
    return Verdict(name, "did not help at once", f"{reason} See whether a run without it does better.")
