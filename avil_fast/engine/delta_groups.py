"""All that has a base and deltas: the groups of the shared parameters, and the target's head if α scales it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avil_fast.deltas.codec import CODECS, FP64
from avil_fast.engine.banks import make_banks
from avil_fast.engine.group import Group, Shard
from avil_fast.engine.results import Memory, Table

if TYPE_CHECKING:
    from avil_fast.config import DeltasConfig


class DeltaGroups:
    """A round's arithmetic on this rank: each method is that of `Group`, over all of them.

    Bases and banks lie beside the masters, which ZeRO may have in CPU memory.

    Args:
        n: number of tasks, 1 to 64; 0 where no deltas are kept.
        target: index of the target, whose coefficient in the last group its head has, too.
        shared: partitions of the shared parameters by group.
        scaled_head: partitions of the target's head, if α scales it; else none.
        deltas: how banks store deltas, and where.
        device: of the banks, if there is no partition.

    Raises:
        AvilError: there is no room for the banks.
    """

    def __init__(
        self,
        n: int,
        target: int,
        shared: Sequence[Sequence[Shard]],
        scaled_head: Sequence[Shard],
        deltas: DeltasConfig,
        device: torch.device,
    ) -> None:
        self.n = n
        self._target = target
        self.shared = _make_groups(n, shared, deltas, device)
        (self.head,) = _make_groups(min(n, 1), [scaled_head], deltas, device)
        """Without a partition if α does not scale it."""

    def __iter__(self) -> Iterator[Group]:
        return iter((*self.shared, self.head))

    @property
    def scales_head(self) -> bool:
        """Whether the target's head is one of them."""
        return bool(self.head.shards)

    @property
    def captured(self) -> list[bool]:
        """Of each task and then of the head, whether the delta is there; no groups differ in this."""
        return [*self.shared[0].bank.captured, *self.head.bank.captured]

    @captured.setter
    def captured(self, captured: Sequence[bool]) -> None:
        for group in self.shared:
            group.bank.captured = list(captured[: self.n])
        self.head.bank.captured = list(captured[self.n :])

    @property
    def complete(self) -> bool:
        """Whether all deltas are there."""
        banks = [group.bank for group in self if group.shards]
        return all(bank.n and all(bank.captured) for bank in banks)

    def take_base(self) -> None:
        for group in self:
            group.take_base()

    def clear(self) -> None:
        """Forget all deltas."""
        for group in self:
            group.bank.clear()

    def capture_(self, task: int) -> float:
        """Also the head's delta, where it is the target's turn; ‖δ‖ over the shared parameters."""
        norm = math.hypot(*(group.capture_(task) for group in self.shared))
        if task == self._target and self.scales_head:
            self.head.capture_(0)
        return norm

    def distance(self) -> float:
        """‖θ − base‖ over the shared parameters."""
        squares = [square for group in self.shared for square in group.squared_distances()]
        return float(torch.stack(squares).sum().sqrt())

    def weighted_sum_(self, table: Table) -> None:
        """With coefficients [groups, n]."""
        for group, alpha in zip(self.shared, table, strict=True):
            group.weighted_sum_(alpha)
        if self.scales_head:
            self.head.weighted_sum_([table[-1][self._target]])

    def dots(self) -> Tensor:
        """[groups, n] fp64, on the CPU."""
        dots = [group.dots() for group in self.shared]
        if self.scales_head:
            dots[-1][self._target] += self.head.dots()[0]
        return torch.tensor(dots, dtype=torch.float64)

    def gram(self) -> Tensor:
        """[n, n] fp64, on the CPU: ⟨δ_i, δ_j⟩ over the shared parameters."""
        return torch.tensor([group.bank.gram() for group in self.shared], dtype=torch.float64).sum(0)

    def memory(self) -> Memory:
        return Memory(
            base=sum(base.nbytes for group in self for base in group.base),
            bank=sum(group.bank.nbytes for group in self),
        )


def _make_groups(
    n: int, groups: Sequence[Sequence[Shard]], deltas: DeltasConfig, device: torch.device
) -> list[Group]:
    """Groups of n deltas, of these partitions."""
    bases = [[torch.empty_like(shard.master) for shard in shards] for shards in groups]
    every = [base for own in bases for base in own]
    device = every[0].device if every else device
    exact = deltas.dtype == "fp32" and any(base.dtype == torch.float64 for base in every)
    codec = FP64 if exact else CODECS[deltas.dtype]
    sizes = [[base.numel() for base in own] for own in bases]
    banks = make_banks(n, sizes, codec, device, deltas.device)
    return [Group(*own) for own in zip(groups, bases, banks, strict=True)]
