"""The losses of a turn's steps, and which of these steps were rejected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SYNCHRONIZE_EVERY = 64
"""Steps between two counts on a GPU, as a count waits for it."""


class Losses:
    """Keeps the loss of every step on the device; that of a rejected one is not finite.

    Args:
        tasks: how many there are.
        device: of the losses.
    """

    def __init__(self, tasks: int, device: torch.device) -> None:
        self.in_a_row = [0] * tasks
        """How many of a task's last steps were rejected one after the other, as of the last `synchronize`."""
        self._every = 1 if device.type == "cpu" else SYNCHRONIZE_EVERY
        self.begin()

    def begin(self, losses: Sequence[Tensor] = ()) -> None:
        """Begin a turn, or go on with one whose losses so far have been counted."""
        self._losses = list(losses)
        self._unseen: list[int] = []
        """Task index of each loss added since the last `synchronize`."""

    def add(self, task: int, loss: Tensor, rejected: Tensor) -> None:
        """A step on a task's loss; both are scalars."""
        self._losses.append(torch.where(rejected, torch.nan, loss))
        self._unseen.append(task)
        if len(self._unseen) == self._every:
            self.synchronize()

    def synchronize(self) -> None:
        """Wait for the device, and count."""
        if not self._unseen:
            return
        finite = torch.stack(self._losses[-len(self._unseen) :]).isfinite().tolist()
        for task, fine in zip(self._unseen, finite, strict=True):
            self.in_a_row[task] = 0 if fine else self.in_a_row[task] + 1
        self._unseen = []

    def stacked(self) -> Tensor:
        """[steps] of this turn."""
        return torch.stack(self._losses) if self._losses else torch.zeros(0)
