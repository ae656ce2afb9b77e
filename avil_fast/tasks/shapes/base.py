"""What is known of a model without its weights: how many elements, and what a pass through it keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Pass = Literal["training", "alpha", "evaluation"]
"""Of a task's training; of an α step, forward and backward in eval mode; or of an evaluation, forward alone."""


@dataclass(frozen=True)
class Sizes:
    """Elements and bytes of a model and its tasks' heads."""

    shared: int
    """Trainable elements that all tasks share: N, the size of θ and of a delta."""
    heads: Sequence[int]
    """Trainable elements of each task's head, the target's first."""
    frozen: int
    """Elements that are not trained."""
    buffers: int
    """Bytes of the model's buffers."""
    element: int
    """Bytes of a parameter."""
    largest: int
    """Elements of the largest parameter."""

    @property
    def trained(self) -> int:
        """Trainable elements of the model and of all heads."""
        return self.shared + sum(self.heads)

    @property
    def whole(self) -> int:
        """Elements of all parameters."""
        return self.trained + self.frozen


@dataclass(frozen=True)
class Kept:
    """The most that a pass takes at once beside parameters and gradients, in bytes, and where that comes from."""

    nbytes: float
    formula: str


class Shape(ABC):
    """What is known of a run's model before it is loaded.

    Attributes:
        sizes: of its parameters.
        tokens: of an example at most; 1 for an image.
        notes: what was assumed, one sentence each.
    """

    sizes: Sizes
    tokens: int
    notes: list[str]

    @abstractmethod
    def kept(self, examples: int, kind: Pass) -> Kept:
        """What a pass of this kind over so many examples takes."""

    def changed(self, **settings: Any) -> Shape | None:
        """The shape with other settings of the model; None where it has no such settings, or has these already."""
        return None


def in_gb(nbytes: float) -> str:
    """Bytes for people, in 10^9: "1.23 GB"."""
    return f"{nbytes / 1e9:.3g} GB"
