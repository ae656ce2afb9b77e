"""αVIL: learn one coefficient per task on the target's dev loss (arXiv 2405.07769, Algorithm 1).

A round, from shared parameters θ:

1. collect: train every task i from θ on its weighted loss; δ_i = θ_i - θ
2. α phase: minimise L_target(dev; θ + Σ α_i δ_i) over α by gradient descent
3. merge: θ ← θ + Σ α_i δ_i
4. weights: w_i ← w_i + (α_i - 1), or one of the other rules

With `alpha.granularity: layer`, no part of the paper, every layer has α of its own. Where one number stands for a
task, that is the mean over layers, each counted by its elements.

Once α is settled (`alpha.rounds`, no part of the paper) it says what to train on: θ goes back to where the run
began, and the tasks train together from there, as DoReMi (Xie et al., NeurIPS 2023) trains once more with the
weights of domains that it has learned. With `alpha.settled: merge` rounds go on with the α that stays.
"""

from __future__ import annotations

from typing import Any

from avil_fast.config import TrainConfig
from avil_fast.engine.base import Engine
from avil_fast.engine.parameters import Granularity
from avil_fast.engine.results import Table, over_groups
from avil_fast.methods.alpha_descent import descend, dev_gradient_at, dev_gradients, mean_over_groups
from avil_fast.methods.base import Method, RoundRecord
from avil_fast.methods.data import TaskData
from avil_fast.methods.scalar_rules import (
    benefits,
    cosines,
    initial_alpha,
    settled,
    share_out,
    shares,
    update_weights,
)
from avil_fast.methods.turn import Hooks
from avil_fast.tasks.task import Task
from avil_fast.tasks.train_and_dev import can_spare_dev

TINY = 1e-8
"""The least weight when steps are shared out, instead of 0: one at least has to be above it."""


class Avil(Method):
    """The method of the package; `preset: paper` is the published algorithm to the letter.

    Attributes:
        alphas: of the rounds in which α was learned.
    """

    def __init__(self, engine: Engine, data: TaskData, config: TrainConfig, hooks: Hooks) -> None:
        super().__init__(engine, data, config, hooks)
        self.alphas: list[Table] = []
        self._on_dev = False
        """The target has trained on its dev set."""
        self._restarted = False
        """θ went back to where the run began."""

    @classmethod
    def held_out_rounds(cls, config: TrainConfig, target: Task) -> int:
        return config.alpha.learned_in(config.rounds, can_spare_dev(target))

    @classmethod
    def granularity(cls, config: TrainConfig) -> Granularity:
        return config.alpha.granularity

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "alphas": list(self.alphas),
            "on_dev": self._on_dev,
            "restarted": self._restarted,
        }

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.alphas = list(state["alphas"])
        self._on_dev, self._restarted = state["on_dev"], state["restarted"]
        if self._on_dev:  # also where the run goes on for longer than it was to
            self.held_out = len(self.alphas)

    def training(self, turn: int) -> str:
        together = self._on_dev and self.config.alpha.settled == "restart"
        return super().training(self.engine.target if together else turn)

    def round(self, round_: int) -> RoundRecord:
        done = self.so_far
        restarts = self.config.alpha.settled == "restart" and not self._alone
        if restarts and round_ == 1 and done.nothing and self.held_out < self.config.rounds:
            self.engine.keep_start()
        if restarts and not self._on_dev and not self.holds_out(round_):
            self._restarted = self.engine.restart()  # not where the run was to be too short for it, and grew
        self._on_dev = self._on_dev or not self.holds_out(round_)
        self.begin()
        if restarts and self._on_dev:
            return self._settled_round(round_)
        for task in range(len(done.norm), len(self.engine.tasks)):
            self._collect(task, round_)
        benefit: list[float] = []
        if self._alone:
            path, cosine = [[[1.0] for _ in self.engine.groups]], [[1.0]]
        elif self.holds_out(round_):
            path, benefit = self._solve_alpha(round_)
            self.alphas.append(path[-1])
        else:
            path = [self._settled]
        if not self._alone:
            self.engine.merge(path[-1])
            cosine = cosines(self.engine.gram())
        means = [mean_over_groups(table, self.engine.groups) for table in path]
        if self.holds_out(round_):
            init = initial_alpha(self.config.alpha, len(means[-1]))
            self.weight = update_weights(self.weight, means[-1], init, self.config.weights, self.engine.target)
        return RoundRecord(
            alpha=means[-1],
            weight=self.weight,
            delta_norm=done.norm,
            train_loss=done.loss,
            alpha_path=means,
            cosine=cosine,
            benefit=benefit,
            rejected_alpha_steps=done.gradient.count([]),
            alpha_layers=path[-1] if self.config.alpha.granularity == "layer" else [],
        )

    def _settled_round(self, round_: int) -> RoundRecord:
        """A round with a settled α: as many steps as all tasks have together, shared out by α and w."""
        alpha = mean_over_groups(self._settled, self.engine.groups)
        by_alpha = shares(alpha, self.engine.target, initial_alpha(self.config.alpha, len(alpha)))
        weighted = [share * max(weight, TINY) for share, weight in zip(by_alpha, self.weight, strict=True)]
        steps = share_out(self.data.steps_per_round, weighted)
        done = self.train_jointly(round_, steps, with_dev=True)
        return RoundRecord(
            alpha=alpha,
            weight=self.weight,
            delta_norm=done.delta_norm,
            train_loss=done.train_loss,
            alpha_path=[alpha],
            share=by_alpha,
            restarted=self._restarted,
        )

    @property
    def _settled(self) -> Table:
        """The α that stays, of every group."""
        by_group = zip(*self.alphas, strict=True)
        return [settled(list(own), self.engine.target, self.config.alpha) for own in by_group]

    @property
    def _alone(self) -> bool:
        """One task and α fixed at 1: θ + 1·δ is θ_i itself, so leave it there, free of rounding."""
        alpha = self.config.alpha
        return len(self.engine.tasks) == 1 and alpha.steps == 0

    def _collect(self, task: int, round_: int) -> None:
        """Train a task, and keep its delta."""
        weight, apply = self.weight[task], self.config.weights.apply
        self.take_turn(
            task,
            round_,
            factor=weight if apply == "sampling" else 1.0,
            loss_weight=weight if apply == "loss" else 1.0,
            lr_scale=weight if apply == "lr" else 1.0,
            with_dev=task == self.engine.target and not self.holds_out(round_),
            restore=not self._alone,
        )
        self.hooks.point()

    def _solve_alpha(self, round_: int) -> tuple[list[Table], list[float]]:
        """Gradient descent on α: the way to the final α, and what each task brought.

        The gradients decide all else, so those that are there already are followed again. An α at which loss or
        gradient is not finite is rejected: the way ends at the one before it.
        """
        config, n = self.config.alpha, len(self.engine.tasks)
        first = [[initial_alpha(config, n)] * n for _ in self.engine.groups]
        path = descend(first, config, lambda alpha, step: dev_gradients(self, alpha, step, round_))
        known = [gradient for gradient in self.so_far.gradient if gradient]
        return path, self._benefit(path[len(known) - 1], known[-1]) if known else []

    def _benefit(self, alpha: Table, gradient: Table) -> list[float]:
        """What each task brought on the way from θ to the last α whose gradient is known."""
        done = self.so_far
        if done.at_third is None:
            done.at_third, _ = dev_gradient_at(self, [[a / 3 for a in own] for own in alpha])
            self.hooks.point()
        if not done.at_third:
            return []
        return over_groups([benefits(*own) for own in zip(alpha, done.at_third, gradient, strict=True)])
