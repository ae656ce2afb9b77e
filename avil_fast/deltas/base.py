"""The contract of a bank: all deltas of a round, and what is computed from them, wherever they are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stored:
    """Elements of a partition where they are kept, from `start` on: a view, not a copy."""

    partition: int
    values: Tensor
    """[m]: floats, or codes of a delta."""
    scales: Tensor | None = None
    """[ceil(m / 256)] fp32 for codes that have scales; `start` is a multiple of 256 then."""
    start: int = 0


class DeltaBank(ABC):
    """n deltas over this rank's partitions; flat tensors [numel], one per partition, are on `device`.

    Args:
        n: number of tasks, 1 to 64.
        device: where θ, base and gradients are, and the operations run.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        self.n = n
        self._device = device
        self.captured = [False] * n
        """Which deltas of this round are there."""

    @property
    def nbytes(self) -> int:
        """Bytes held, scales and alignment included."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self._storage())

    def capture_(
        self, slot: int, theta: Sequence[Tensor], base: Sequence[Tensor], low: Sequence[Tensor] = ()
    ) -> float:
        """Store δ_slot = theta − base, put `base` back into `theta` (and `low`), return ‖δ_slot‖."""
        squares = self._capture_(slot, theta, base, low)
        self.captured[slot] = True
        return float(squares.sqrt())

    def weighted_sum_(
        self,
        out: Sequence[Tensor],
        base: Sequence[Tensor],
        alpha: Sequence[float],
        low: Sequence[Tensor] = (),
    ) -> None:
        """out ← base + Σ α_i δ_i."""
        self._require_all()
        coefficients = torch.tensor(alpha, dtype=torch.float64, device=self._device)
        self._weighted_sum_(out, base, coefficients, low)

    def dots(self, grad: Sequence[Tensor]) -> list[float]:
        """⟨g, δ_i⟩ for every task, over this rank's partitions."""
        self._require_all()
        return self._dots(grad).tolist()

    def gram(self) -> list[list[float]]:
        """⟨δ_i, δ_j⟩ for every pair, over this rank's partitions."""
        self._require_all()
        return self._gram().tolist()

    def clear(self) -> None:
        """Start a round: no delta is captured yet. Nothing is freed or zeroed."""
        self.captured = [False] * self.n

    def _require_all(self) -> None:
        missing = [i for i, captured in enumerate(self.captured) if not captured]
        if missing:
            raise RuntimeError(f"the deltas of tasks {missing} were not captured in this round")

    @abstractmethod
    def row(self, slot: int) -> list[Stored]:
        """One delta as it is kept, in the order of partitions, for reading once it is captured, or for filling."""

    @abstractmethod
    def _storage(self) -> Iterable[Tensor]:
        """The tensors that hold the deltas."""

    @abstractmethod
    def _capture_(
        self, slot: int, theta: Sequence[Tensor], base: Sequence[Tensor], low: Sequence[Tensor]
    ) -> Tensor:
        """As `ops.capture_`: ‖δ‖², a scalar in fp64. Whoever waits for it finds the delta in the bank."""

    @abstractmethod
    def _weighted_sum_(
        self, out: Sequence[Tensor], base: Sequence[Tensor], alpha: Tensor, low: Sequence[Tensor]
    ) -> None:
        """As `ops.weighted_sum_`; alpha [n] fp64."""

    @abstractmethod
    def _dots(self, grad: Sequence[Tensor]) -> Tensor:
        """As `ops.delta_dots`: [n] fp64."""

    @abstractmethod
    def _gram(self) -> Tensor:
        """As `ops.delta_gram`: [n, n] fp64."""
