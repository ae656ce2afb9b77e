"""CPU memory for snapshots of a model, used again for the next one once nobody holds the last."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from avil_fast.engine.state import Snapshot


class SnapshotMemory:
    """Keeps the memory of the last snapshot that was let go: to get it anew takes longer than to copy into it, as
    every page has to be made first. One model's worth at most lies idle.
    """

    def __init__(self) -> None:
        self._idle: list[Tensor] | None = None

    def snapshot(self, masters: Sequence[Tensor], buffers: Sequence[Tensor]) -> Snapshot:
        """Copies of these; of `masters`, always of the same shapes and dtypes, in memory of a former one."""
        memory = self._idle or [torch.empty_like(t, device="cpu") for t in masters]
        self._idle = None
        for copy, master in zip(memory, masters, strict=True):
            copy.copy_(master)
        made = Snapshot(memory, [buffer.to("cpu", copy=True) for buffer in buffers])
        weakref.finalize(made, self._let_go, memory).atexit = False  # when Python ends, nothing is used again
        return made

    def _let_go(self, memory: list[Tensor]) -> None:
        self._idle = memory
