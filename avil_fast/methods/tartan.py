"""META-TARTAN: task weights follow the alignment of a task's direction with the target's dev gradient."""

from __future__ import annotations

from avil_fast.config.base import Positive, Section
from avil_fast.methods.merging import Merging
from avil_fast.methods.scalar_rules import reweighted


class Tartan(Merging):
    """Dery, Michel, Talwalkar and Neubig, "Should We Be Pre-training? An Argument for End-task Aware Training"
    (ICLR 2022), on deltas.

    Weights are a softmax, w = n softmax(φ), and φ is learned by gradient descent on the target's dev loss after a
    step of training: ∂L/∂w_i = ⟨∇L, δ_i⟩ at θ + Σ w_i δ_i. As there, the sign and size of the alignment count and
    not that of the gradient: ⟨∇L, δ_i⟩ is divided by the largest of them.
    """

    class Options(Section):
        """How fast weights follow alignments."""

        lr: Positive = 1.0
        """Learning rate of φ."""

    def coefficients(self, round_: int) -> list[float]:
        if gradient := self.dev_gradient(self.weight):
            self.weight = reweighted(self.weight, steps(self.weight, gradient, self.options.lr))
        return list(self.weight)


def steps(weight: list[float], gradient: list[float], lr: float) -> list[float]:
    """What gradient descent adds to the logits φ of n softmax(φ), with the gradient brought to size 1.

    ∂L/∂φ_i = w_i (g_i - Σ_j w_j g_j / n).

    Args:
        weight: [n], n softmax(φ).
        gradient: [n], g = ∂L/∂w.
    """
    largest = max(map(abs, gradient))
    if largest == 0:
        return [0.0] * len(gradient)
    scaled = [g / largest for g in gradient]
    mean = sum(w * g for w, g in zip(weight, scaled, strict=True)) / len(weight)
    return [-lr * w * (g - mean) for w, g in zip(weight, scaled, strict=True)]
