"""What an engine's state is made of, so that it can be saved on some ranks and taken up on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from avil_fast.deltas.base import Stored

SLICE = ("parameter", "start", "stop", "partition", "offset")
"""Columns of `Placement.slices`; `parameter` is an index into `Placement.parameters`."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where this rank's partitions have which elements of which parameters."""

    parameters: dict[str, list[int]]
    """Shapes of all trainable parameters of the model by name, tied ones once; the same on all ranks."""
    sizes: list[int]
    """Elements of this rank's partitions, with padding."""
    slices: Tensor
    """[slices, 5] int64, the columns of `SLICE`: this rank's."""

    def same_as(self, other: Placement) -> bool:
        """Whether everything lies in the same places."""
        return (self.parameters, self.sizes) == (other.parameters, other.sizes) and torch.equal(
            self.slices, other.slices
        )


def as_table(slices: list[tuple[int, ...]]) -> Tensor:
    """Rows of `SLICE` as `Placement` takes them."""
    return torch.tensor(slices, dtype=torch.int64).view(-1, len(SLICE))


@dataclass(frozen=True)
class Snapshot:
    """A copy of a model in the memory of the CPU.

    That memory is used again when nobody holds the copy: whoever keeps its tensors keeps it, too.
    """

    masters: list[Tensor]
    """This rank's partitions."""
    buffers: list[Tensor]
    """All of the model's."""


@dataclass
class EngineState:
    """All that an engine holds between two steps, as it lies on this rank."""

    facts: dict[str, Any]
    """The same on all ranks, in JSON's types."""
    sharded: dict[str, list[Stored]] = field(default_factory=dict)
    """By what it is: "theta", "trained", "delta/0", "moment/0/exp_avg"; in the order of partitions."""
    common: dict[str, Tensor] = field(default_factory=dict)
    """The same on all ranks: buffers, or what they were and what they add up to in a round; those of the start, if
    it is kept; frozen parameters that have moved."""
    own: dict[str, Tensor] = field(default_factory=dict)
    """Of this rank alone: losses, buffers and random numbers of the task that trains."""


@dataclass(frozen=True)
class Loaded:
    """The part of a saved state that is not divided among ranks."""

    common: Mapping[str, Tensor]
    own: Mapping[str, Tensor] | None
    """What this rank saved; None if there was no such rank."""
    all_own: Sequence[Mapping[str, Tensor]]
    """What every rank saved; empty if there are as many now, who have no use for it."""
