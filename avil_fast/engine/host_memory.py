"""CPU memory for copies of a model, used again for the next copy once nobody holds the last."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from avil_fast.engine.state import Snapshot


class HostMemory:
    """To get memory anew takes several times as long as to copy into it: every page has to be made first.

    Where a snapshot is let go before the next is taken, there is one model's worth of it.
    """

    def __init__(self) -> None:
        self._free: list[list[Tensor]] = []

    def snapshot(self, masters: Sequence[Tensor], buffers: Sequence[Tensor]) -> Snapshot:
        """Copies of these; of `masters`, always of the same shapes and dtypes, in memory of a former one."""
        memory = self._free.pop() if self._free else [torch.empty_like(t, device="cpu") for t in masters]
        for copy, master in zip(memory, masters, strict=True):
            copy.copy_(master)
        made = Snapshot(memory, [buffer.to("cpu", copy=True) for buffer in buffers])
        weakref.finalize(made, self._free.append, memory).atexit = False
        return made
