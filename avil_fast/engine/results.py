"""What a method gives an engine and gets from it: tables over groups and tasks, and what a turn has come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Alpha = Sequence[float] | Sequence[Sequence[float]]
"""[n], the same for all groups, or [groups, n]."""

Table = list[list[float]]
"""[groups, n]: a number for every group and task."""


def over_groups(table: Table) -> list[float]:
    """The sum over groups, [n]."""
    return [sum(of_task) for of_task in zip(*table, strict=True)]


@dataclass(frozen=True)
class TaskRun:
    """What one task's training in a round left behind."""

    loss: float
    """Mean training loss over the steps that were taken, unweighted; NaN if there were none."""
    delta_norm: float
    """‖δ_i‖ over the shared parameters."""
    losses: Sequence[float] = ()
    """Of every step; of one that was rejected it is not finite."""

    @property
    def rejected(self) -> list[bool]:
        """Of every step, whether it was rejected."""
        return [not math.isfinite(loss) for loss in self.losses]


@dataclass(frozen=True)
class Evaluation:
    """Loss and metric of a task, means over examples; the metric is None if the task has none."""

    loss: float
    metric: float | None
    higher_is_better: bool = True
    """Of the metric."""

    def better_than(self, other: Evaluation | None) -> bool:
        """A better metric, then a lower loss; a NaN is worse than any number."""
        if other is None:
            return True
        by_metric = None not in (self.metric, other.metric)
        return self._order(by_metric) < other._order(by_metric)

    def _order(self, by_metric: bool) -> list[float]:
        values = [self.loss]
        if by_metric and self.metric is not None:
            values.insert(0, -self.metric if self.higher_is_better else self.metric)
        return [math.inf if math.isnan(value) else value for value in values]


@dataclass(frozen=True)
class Memory:
    """Bytes that αVIL holds on this rank beyond plain training."""

    base: int
    """θ as it was when the round began."""
    bank: int
    """The round's deltas."""
