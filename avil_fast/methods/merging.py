"""What methods that merge deltas have in common: a turn for every task, then coefficients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from avil_fast.engine.results import over_groups
from avil_fast.methods.alpha_descent import dev_gradient_at
from avil_fast.methods.base import Method, RoundRecord
from avil_fast.methods.scalar_rules import cosines


class Collecting(Method):
    """Every task trains from θ, in a turn of its own."""

    def collect(self, round_: int) -> None:
        """Train the tasks that are left, and keep their deltas."""
        tasks = range(len(self.engine.tasks))
        self.begin()
        for task in tasks[len(self.so_far.norm) :]:
            self.take_turn(task, round_, task_of_step=self.tasks_of_steps(task, round_))
            self.hooks.point()

    def tasks_of_steps(self, task: int, round_: int) -> Sequence[int] | None:
        """Whose loss each step of a task's turn trains; None: its own in all."""
        return None


class Merging(Collecting):
    """Every task trains from θ; then θ ← θ + Σ c_i δ_i, with coefficients as the method says.

    All 1 is Σ δ_i: as far as the tasks would go one after the other.
    """

    def round(self, round_: int) -> RoundRecord:
        done = self.so_far
        self.collect(round_)
        alpha = self.coefficients(round_)
        self.engine.merge(alpha)
        return RoundRecord(
            alpha=alpha,
            weight=self.weight,
            delta_norm=done.norm,
            train_loss=done.loss,
            cosine=cosines(self.engine.gram()),
            rejected_alpha_steps=done.gradient.count([]),
        )

    @abstractmethod
    def coefficients(self, round_: int) -> list[float]:
        """What to merge the deltas with; may change `weight`."""

    def dev_gradient(self, alpha: Sequence[float]) -> list[float]:
        """∂L/∂α of the target's dev loss at θ + Σ α_i δ_i; once in a round, also where it is taken up again.

        Empty if it or the loss is not finite: what would learn by it stays as it is.
        """
        known = self.so_far.gradient
        if not known:
            known.append(dev_gradient_at(self, alpha)[0])
            self.hooks.point()
        return over_groups(known[0])
