"""Gradient aggregation, from the library torchjd, on deltas in place of gradients."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from avil_fast.config.base import NonNegative, Section
from avil_fast.methods.merging import Merging
from avil_fast.randomness import derive_seed, seeded


class Aggregated(Merging):
    """Merges with the weights that an aggregator finds in the Gram matrix ⟨δ_i, δ_j⟩.

    With one step of SGD per task δ_i is -lr times a gradient, and this is the method on gradients.
    """

    packages: ClassVar[Sequence[str]] = ("torchjd",)

    def coefficients(self, round_: int) -> list[float]:
        gram = torch.tensor(self.engine.gram(), dtype=torch.float64)
        gram = gram / gram.diagonal().max().clamp(min=1e-300)
        with seeded(derive_seed(self.config.seed, "aggregation", round_)):
            weights: list[float] = self.aggregator(importlib.import_module("torchjd.aggregation"))(gram).tolist()
        self.weight = [self.scale * weight for weight in weights]
        return list(self.weight)

    @property
    def scale(self) -> float:
        """Factor on the aggregator's weights: n, where they are those of a mean."""
        return float(len(self.engine.tasks))

    @abstractmethod
    def aggregator(self, library: Any) -> Callable[[Tensor], Tensor]:
        """The aggregator: a function from a Gram matrix [n, n] to weights [n].

        Args:
            library: the module torchjd.aggregation.
        """


class UPGrad(Aggregated):
    """Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization" (arXiv 2406.16232): the mean of the
    deltas, each projected onto the cone of those that conflict with none."""

    packages = ("torchjd", "quadprog", "qpsolvers")

    def aggregator(self, library: Any) -> Callable[[Tensor], Tensor]:
        found: Callable[[Tensor], Tensor] = library.UPGradWeighting()
        return found


class PCGrad(Aggregated):
    """Yu and others, "Gradient Surgery for Multi-Task Learning" (NeurIPS 2020): each delta without what conflicts
    with another, added up."""

    @property
    def scale(self) -> float:
        return 1.0

    def aggregator(self, library: Any) -> Callable[[Tensor], Tensor]:
        found: Callable[[Tensor], Tensor] = library.PCGradWeighting()
        return found


class CAGrad(Aggregated):
    """Liu and others, "Conflict-Averse Gradient Descent for Multi-task Learning" (NeurIPS 2021): near the mean,
    where the task that gains least gains most."""

    packages = ("torchjd", "cvxpy")

    class Options(Section):
        """How near to the mean the weights stay."""

        c: NonNegative = 0.4
        """c of the paper; 0 is the mean."""

    def aggregator(self, library: Any) -> Callable[[Tensor], Tensor]:
        found: Callable[[Tensor], Tensor] = library.CAGradWeighting(c=self.options.c)
        return found


class MGDA(Aggregated):
    """Désidéri, "Multiple-gradient descent algorithm for multiobjective optimization" (Comptes Rendus
    Mathématique, 2012): the shortest convex combination of the deltas."""

    def aggregator(self, library: Any) -> Callable[[Tensor], Tensor]:
        found: Callable[[Tensor], Tensor] = library.MGDAWeighting()
        return found
