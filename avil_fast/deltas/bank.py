"""The bank: all deltas of a round, stored per partition, and what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avil_fast import ops
from avil_fast.deltas.codec import Codec


class Bank:
    """n deltas over this rank's partitions.

    Args:
        n: number of tasks, 1 to 64.
        sizes: elements of each partition.
        codec: how deltas are stored.
        device: where.
    """

    def __init__(self, n: int, sizes: Sequence[int], codec: Codec, device: torch.device) -> None:
        self.n = n
        self.codes: list[Tensor] = []
        self.scales: list[Tensor] = []
        self._device = device
        self._captured = [False] * n
        for size in sizes:
            codes, scales = codec.allocate(n, size, device)
            self.codes.append(codes)
            if scales is not None:
                self.scales.append(scales)

    @property
    def nbytes(self) -> int:
        """Bytes held, scales and alignment included."""
        return sum(t.untyped_storage().nbytes() for t in (*self.codes, *self.scales))

    def capture_(
        self, slot: int, theta: Sequence[Tensor], base: Sequence[Tensor], low: Sequence[Tensor] = ()
    ) -> float:
        """Store δ_slot = theta − base, put `base` back into `theta` (and `low`), return ‖δ_slot‖."""
        squares = ops.capture_(self.codes, self.scales, slot, theta, base, low)
        self._captured[slot] = True
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
        ops.weighted_sum_(out, base, self.codes, self.scales, coefficients, low)

    def dots(self, grad: Sequence[Tensor]) -> list[float]:
        """⟨g, δ_i⟩ for every task, over this rank's partitions."""
        self._require_all()
        return ops.delta_dots(grad, self.codes, self.scales).tolist()

    def gram(self) -> list[list[float]]:
        """⟨δ_i, δ_j⟩ for every pair, over this rank's partitions."""
        self._require_all()
        return ops.delta_gram(self.codes, self.scales).tolist()

    def clear(self) -> None:
        """Start a round: no delta is captured yet. Nothing is freed or zeroed."""
        self._captured = [False] * self.n

    def _require_all(self) -> None:
        missing = [i for i, captured in enumerate(self._captured) if not captured]
        if missing:
            raise RuntimeError(f"the deltas of tasks {missing} were not captured in this round")
