"""What a finished run came to beside its baselines, in a sentence or two, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from avil_fast.report.headline_metric import Measure, by_dev_of_some, measure

_ERRORS = 2.0
"""Standard errors of a difference that chance may make: a normal variable is beyond them in one case of twenty."""

_POINT = 0.01
"""What may be chance where the number of examples does not say: a point of a share of one, or so much of another
measure's value."""

_NEAR = 0.05
"""How far α may be from where it began for little to have been learned."""

NEAR_START = (
    "All α are near their start, so little was learned about the auxiliaries: "
    "try alpha.optimizer=adam alpha.lr=0.1."
)


def advice(summary: dict[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """Whether the run is ahead of the best of its baselines, level or behind; empty where that cannot be said.

    Args:
        history: the lines of metrics.jsonl.
    """
    runs = [summary, *summary["baselines"].values()]
    judged = measure(runs)
    if len(runs) == 1 or by_dev_of_some(runs, judged) or not _trained_others(summary):
        return ""
    sign = -1 if judged.lower_is_better else 1
    best = max(runs[1:], key=lambda run: sign * run[judged.key])
    ahead = sign * (summary[judged.key] - best[judged.key])
    chance, why = _by_chance(summary, best, judged)
    baseline, by = f"the baseline {best['method']}", _amount(abs(ahead), judged)
    if abs(ahead) <= chance:
        sentence = f"Level with {baseline}: {why}a difference of up to {_amount(chance, judged)} can be chance."
    elif ahead > 0:
        return f"Ahead of {baseline} by {by}."
    elif _trained_others(best):
        sentence = f"Behind {baseline} by {by}: use method={best['method']}."
    else:
        sentence = f"Behind {baseline} by {by}: leave the auxiliaries out."
    return f"{sentence} {NEAR_START}" if _is_near_its_start(summary, history) else sentence


def _trained_others(run: Mapping[str, Any]) -> bool:
    """Whether a run trained tasks beside the target."""
    return any(steps for name, steps in run["steps"].items() if name != run["target"])


def _by_chance(run: Mapping[str, Any], other: Mapping[str, Any], judged: Measure) -> tuple[float, str]:
    """How far two runs may differ by the choice of the examples alone, and from what that is known.

    The binomial standard error of an accuracy p over n examples is sqrt(p (1 - p) / n). That of a difference takes
    both as independent: as they were measured on the same examples, it is rather less.
    """
    split, target = judged.key.partition("_")[0], run["target"]
    examples = run.get("examples", {}).get(target, {}).get(split)
    values = [run[judged.key], other[judged.key]]
    if examples and judged.percent and (run.get("metric") or {}).get("name") == "accuracy":
        error = math.sqrt(sum(value * (1 - value) for value in values) / examples)
        return _ERRORS * error, f"with {examples:,} {split} examples "
    return (_POINT if judged.percent else _POINT * abs(values[1])), ""


def _amount(difference: float, judged: Measure) -> str:
    return f"{100 * difference:.1f} points" if judged.percent else f"{difference:.3f}"


def _is_near_its_start(summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether α of no auxiliary went far in any round in which it was learned."""
    paths = [row["alpha_path"] for row in history if len(row.get("alpha_path") or []) > 1]
    others = [i for i, name in enumerate(summary["tasks"]) if name != summary["target"]]
    return bool(paths) and all(abs(path[-1][i] - path[0][i]) <= _NEAR for path in paths for i in others)
