"""What a run made of each auxiliary, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avil_fast.report.formatting import number, size

_INFLUENCES = ((0.25, "hardly used"), (0.9, "used in part"), (1.1, "used in full"), (math.inf, "turned up"))
"""What a run made of a task whose influence is below a bound; 1 is where every task starts."""

_LEAST = 0.1
"""Of what the target's own updates did to its dev loss. Less is what chance does on a small dev set: of six tasks
of random labels on the digits, three "gained" 0.06 to 0.1 of it in one round. The other three gained more: one
round tells no more, and several rounds, or seeds, are needed."""

_ERRORS = 2.0
"""Standard errors that a mean over rounds is to be away from 0."""


@dataclass(frozen=True)
class Verdict:
    """A sentence of three parts: a task's name, what became of it, and the numbers behind that.

    Attributes:
        helped: it clearly did.
        of_benefit: it is about what updates did within the rounds in which α was learned.
    """

    name: str
    verdict: str
    reason: str
    helped: bool = False
    of_benefit: bool = False


def verdicts(summary: dict[str, Any], history: Sequence[dict[str, Any]]) -> list[Verdict]:
    """One for each auxiliary, in the order of the tasks."""
    moved = any(value != 1.0 for row in history for value in row["weight"].values())
    return [_verdict(summary, history, name, moved) for name in summary["tasks"] if name != summary["target"]]


def period(summary: dict[str, Any], history: Sequence[dict[str, Any]]) -> str:
    """The rounds whose benefits a summary adds up: "in round 1", or "over 4 rounds"."""
    rounds = [row["round"] for row in _learned(summary, history, summary["target"])]
    if not rounds:  # an older run's lines do not tell
        return "in the rounds up to the kept one"
    return f"in round {rounds[0]}" if len(rounds) == 1 else f"over {len(rounds)} rounds"


def is_clear(summary: dict[str, Any], history: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether a task's benefit is more than chance would do.

    It is at least `_LEAST` of the size of the target's own; and where α was learned in several rounds, its mean
    over them is `_ERRORS` of its standard errors away from 0.
    """
    gain, own = (summary.get("benefit", {}).get(task) for task in (name, summary["target"]))
    if not gain or abs(gain) < _LEAST * abs(own or 0.0):
        return False
    by_round = [row["benefit"][name] for row in _learned(summary, history, name)]
    if len(by_round) < 2:
        return True
    return bool(abs(np.mean(by_round)) > _ERRORS * np.std(by_round, ddof=1) / math.sqrt(len(by_round)))


def _learned(summary: dict[str, Any], history: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Rounds up to the kept one in which a task's benefit was measured."""
    kept = (row for row in history if row["round"] <= summary["best_round"])
    return [row for row in kept if (row.get("benefit") or {}).get(name) is not None]


def _trained(share: float) -> str:
    """How much of a task the rounds after α was settled trained on."""
    if share == 0:
        return "left out from then on"
    if share >= 1:
        return "trained for as many steps as the target"
    return f"trained for {max(1, round(100 * share))} % as many steps as the target"


def _verdict(
    summary: dict[str, Any], history: Sequence[dict[str, Any]], name: str, weights_moved: bool
) -> Verdict:
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
        reason = f": its updates left the target's dev loss as it was; {use}."
        return Verdict(name, "made no difference", reason, of_benefit=True)
    moved = (
        f"{'lowered' if gain > 0 else 'raised'} the target's dev loss by {size(gain)} {period(summary, history)}"
    )
    beside = f" (the target's own {'lowered' if own > 0 else 'raised'} it by {size(own)})" if own else ""
    reason = f": its updates {moved}{beside}; {use}."
    # Where not even the target's own updates lowered its dev loss, a gain beside them tells nothing.
    if not is_clear(summary, history, name) or (gain > 0 and own is not None and own <= 0):
        return Verdict(name, "did too little to tell", reason, of_benefit=True)
    if gain > 0:
        return Verdict(name, "gave an immediate gain", reason, helped=True, of_benefit=True)
    reason += " See whether a run without it does better."
    return Verdict(name, "gave no immediate gain", reason, of_benefit=True)
