"""ForkMerge: branches with and without each auxiliary, merged with the coefficients that are best on dev."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from avil_fast.config.base import Count, Section
from avil_fast.engine.results import Evaluation
from avil_fast.methods.merging import Merging
from avil_fast.tasks.task import Task


class ForkMerge(Merging):
    """Jiang, Chen, Wang and Long, "ForkMerge: Mitigating Negative Transfer in Auxiliary-Task Learning" (NeurIPS
    2023).

    In every round θ forks into a branch for the target alone and one for the target together with each auxiliary,
    batches of both in turn, the target's head included. They are merged to θ + Σ λ_i δ_i, λ from the simplex, by
    greedy search on the target's dev set.
    """

    class Options(Section):
        """How fine λ is searched."""

        grid: Count = 5
        """λ is searched in steps of 1/grid."""

    @classmethod
    def trained(cls, tasks: Sequence[Task], target: int) -> list[Task]:
        return [replace(task, head=None) if i == target else task for i, task in enumerate(tasks)]

    def tasks_of_steps(self, task: int, round_: int) -> list[int]:
        steps = [0] * len(self.engine.tasks)
        total = self.data.steps(task)
        steps[task] += total // 2
        steps[self.engine.target] += total - total // 2
        return self.shuffled(steps, task, round_)

    def coefficients(self, round_: int) -> list[float]:
        target = self.engine.target

        def score(alpha: Sequence[float]) -> Evaluation:
            self.engine.apply(alpha)
            return self.engine.evaluate(target, self.data.dev(target))

        return search(score, len(self.engine.tasks), self.options.grid)


def search(score: Callable[[Sequence[float]], Evaluation], n: int, grid: int) -> list[float]:
    """λ by greedy search: branches in the order of their scores, each mixed into the rest with its best share.

    Args:
        score: of a λ on the simplex; what is better is `Evaluation.better_than`.
        n: number of branches.
        grid: shares tried for a branch are 1/grid, 2/grid, ...
    """
    alone = [[float(other == branch) for other in range(n)] for branch in range(n)]
    found = [score(own) for own in alone]
    ranked: list[int] = []
    for branch in range(n):
        place = next((k for k, other in enumerate(ranked) if found[branch].better_than(found[other])), len(ranked))
        ranked.insert(place, branch)
    first, *others = ranked
    best, merged = found[first], alone[first]
    for branch in others:
        before = merged
        for step in range(1, grid):  # 0 is what there is, and 1 is the branch alone, which is no better
            share = step / grid
            mixed = [(1 - share) * a + share * b for a, b in zip(before, alone[branch], strict=True)]
            if (own := score(mixed)).better_than(best):
                best, merged = own, mixed
    return merged
