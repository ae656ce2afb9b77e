"""A group: partitions whose deltas are combined with the same coefficients, with their base and their bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from avil_fast.deltas.base import DeltaBank


class Shard(Protocol):
    """One partition: what this rank owns of some parameters, as one flat tensor."""

    @property
    def master(self) -> Tensor:
        """[numel] fp32 (fp64 for a model in fp64), without a graph; the values that are trained."""

    @property
    def low(self) -> Sequence[Tensor]:
        """[numel] bf16 or fp16 copies to be written along with `master`; none where `_publish` makes them."""

    @property
    def grad(self) -> Tensor:
        """[numel], fp32 or bf16: the gradient of the last backward passes, summed over ranks."""


@dataclass(frozen=True)
class Group:
    """What of θ has coefficients of its own: all of it, a layer, or the target's head."""

    shards: Sequence[Shard]
    base: Sequence[Tensor]
    """θ as it was when the round began, by partition."""
    bank: DeltaBank

    def take_base(self) -> None:
        """Make the present θ the base."""
        for shard, base in zip(self.shards, self.base, strict=True):
            base.copy_(shard.master)

    def capture_(self, slot: int) -> float:
        """Put the partitions' delta in the bank and the base back into them; ‖δ‖."""
        return self.bank.capture_(slot, self._masters, self.base, low_of(self.shards))

    def weighted_sum_(self, alpha: Sequence[float]) -> None:
        """Set the partitions to base + Σ α_i δ_i."""
        self.bank.weighted_sum_(self._masters, self.base, alpha, low_of(self.shards))

    def dots(self) -> list[float]:
        """⟨g, δ_i⟩ for every delta, with the partitions' gradient."""
        return self.bank.dots([shard.grad for shard in self.shards])

    def squared_distances(self) -> list[Tensor]:
        """‖θ − base‖² of each partition, scalars in fp64."""
        pairs = zip(self._masters, self.base, strict=True)
        return [(master - base).double().square().sum() for master, base in pairs]

    @property
    def _masters(self) -> list[Tensor]:
        return [shard.master for shard in self.shards]


def low_of(shards: Sequence[Shard]) -> list[Tensor]:
    """The low-precision copies, to be written in the same pass; none where only some partitions have one."""
    copies = [low for shard in shards for low in shard.low]
    return copies if len(copies) == len(shards) else []
