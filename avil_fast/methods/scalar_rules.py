"""Rules on scalars alone: where α starts and settles, task weights, shares of the steps, benefits, cosines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from avil_fast.config import AlphaConfig, WeightsConfig


def initial_alpha(config: AlphaConfig, n: int) -> float:
    """Where every α begins: 1, or 1/n for n tasks."""
    return 1.0 if config.init == "one" else 1.0 / n


def settled(alphas: list[list[float]], target: int, config: AlphaConfig) -> list[float]:
    """The mean α over the later half of the rounds in which it was learned, the target's at least half its start.

    A round may teach the target nothing new, and then its α is small. Kept for all rounds to come, it would have
    them teach it nothing either.
    """
    later = alphas[len(alphas) // 2 :]
    mean = [sum(own) / len(later) for own in zip(*later, strict=True)]
    least = initial_alpha(config, len(mean)) / 2
    mean[target] = max(mean[target], least if config.bounds is None else min(least, config.bounds[1]))
    return mean


def shares(alpha: list[float], target: int, init: float) -> list[float]:
    """What each task has of the steps, as a part of what the target has, which is 1.

    1 where α is at least half of where it began, and below that in proportion: by how much the α of two useful
    tasks differ is noise on a small dev set.
    """
    found = [min(max(2 * a / init, 0.0), 1.0) for a in alpha]
    found[target] = 1.0
    return found


def share_out(total: int, shares: Sequence[float]) -> list[int]:
    """`total` steps in whole numbers, in proportion to the shares; none is more than one off."""
    ends = [round(total * sum(shares[: task + 1]) / sum(shares)) for task in range(len(shares))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def update_weights(
    weight: list[float], alpha: list[float], init: float, config: WeightsConfig, target: int
) -> list[float]:
    """The weights for the next round.

    additive, the paper's with η = 1: w_i + η (α_i - 1). multiplicative: w_i · (α_i / α_init)^η, with α
    below 0 taken as 0. Then the mean is brought to 1 (`normalize`), then bounds and the target's floor
    are applied, so that no weight is stuck at 0, where δ and with it the α gradient would vanish.
    """
    match config.rule:
        case "off":
            return weight
        case "additive":
            updated = [w + config.lr * (a - 1) for w, a in zip(weight, alpha, strict=True)]
        case "multiplicative":
            updated = [w * max(a / init, 0.0) ** config.lr for w, a in zip(weight, alpha, strict=True)]
    mean = sum(updated) / len(updated)
    if config.normalize and mean > 0:
        updated = [w / mean for w in updated]
    if config.bounds is not None:
        low, high = config.bounds
        updated = [min(max(w, low), high) for w in updated]
    if config.target_min is not None:
        updated[target] = max(updated[target], config.target_min)
    return updated


def reweighted(weight: list[float], log_factors: list[float]) -> list[float]:
    """w_i exp(f_i), rescaled to mean 1: a step of exponentiated gradient descent; no step where all would be 0.

    Args:
        weight: [n], above 0.
        log_factors: [n].
    """
    logs = [math.log(w) + f if w > 0 else -math.inf for w, f in zip(weight, log_factors, strict=True)]
    highest = max(logs)
    if highest == -math.inf:
        return list(weight)
    raised = [math.exp(log - highest) for log in logs]
    mean = sum(raised) / len(raised)
    return [w / mean for w in raised]


def benefits(alpha: list[float], at_third: list[float], at_alpha: list[float]) -> list[float]:
    """How much of the fall of the target's dev loss from θ to θ + Σ α_i δ_i is due to each task.

    The loss falls by -∫ Σ α_i ∂L/∂α_i(tα) dt for t from 0 to 1, and task i's part is that of its own term (Aumann
    and Shapley's share). Here by Radau's rule of two points, -α_i (3 g_i(α/3) + g_i(α)) / 4, which is exact where
    the loss is cubic along the line. Negative: the task drove the loss up.

    Args:
        alpha: [n], of each task.
        at_third: [n], ∂L/∂α at α / 3.
        at_alpha: [n], the same at α.
    """
    return [-a * (3 * g + h) / 4 for a, g, h in zip(alpha, at_third, at_alpha, strict=True)]


def cosines(gram: list[list[float]]) -> list[list[float]]:
    """cos(δ_i, δ_j) from ⟨δ_i, δ_j⟩; 0 where a delta is zero."""

    def cosine(i: int, j: int) -> float:
        size = math.sqrt(gram[i][i] * gram[j][j])
        return gram[i][j] / size if size > 0 else 0.0

    return [[cosine(i, j) for j in range(len(gram))] for i in range(len(gram))]
