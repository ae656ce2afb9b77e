"""The bank on the device of the model: every operation is one call over all partitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from avil_fast import ops
from avil_fast.deltas.base import DeltaBank, Stored
from avil_fast.deltas.codec import Codec


class Bank(DeltaBank):
    """n deltas over this rank's partitions, each partition's in one tensor.

    Args:
        n: number of tasks, 1 to 64.
        sizes: elements of each partition.
        codec: how deltas are stored.
        device: where.
    """

    def __init__(self, n: int, sizes: Sequence[int], codec: Codec, device: torch.device) -> None:
        super().__init__(n, device)
        self.codes: list[Tensor] = []
        self.scales: list[Tensor] = []
        for size in sizes:
            codes, scales = codec.allocate(n, size, device)
            self.codes.append(codes)
            if scales is not None:
                self.scales.append(scales)

    def row(self, slot: int) -> list[Stored]:
        scales: list[Tensor] | list[None] = self.scales or [None] * len(self.codes)
        return [
            Stored(partition, codes[slot], None if scale is None else scale[slot])
            for partition, (codes, scale) in enumerate(zip(self.codes, scales, strict=True))
        ]

    def _storage(self) -> Iterable[Tensor]:
        return (*self.codes, *self.scales)

    def _capture_(
        self, slot: int, theta: Sequence[Tensor], base: Sequence[Tensor], low: Sequence[Tensor]
    ) -> Tensor:
        return ops.capture_(self.codes, self.scales, slot, theta, base, low)

    def _weighted_sum_(
        self, out: Sequence[Tensor], base: Sequence[Tensor], alpha: Tensor, low: Sequence[Tensor]
    ) -> None:
        ops.weighted_sum_(out, base, self.codes, self.scales, alpha, low)

    def _dots(self, grad: Sequence[Tensor]) -> Tensor:
        return ops.delta_dots(grad, self.codes, self.scales)

    def _gram(self) -> Tensor:
        return ops.delta_gram(self.codes, self.scales)
