"""The bank in CPU memory, for deltas that the device has no room for: operations stream it in windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from avil_fast import ops
from avil_fast.deltas.base import DeltaBank, Stored
from avil_fast.deltas.codec import Codec
from avil_fast.deltas.staging import Staging, compute_stream, copy_stream
from avil_fast.deltas.windows import Window, cut
from avil_fast.ops.checks import GRAD_DTYPES, check_disjoint, check_flat, check_update, unless_same
from avil_fast.ops.encoding import blocks

WINDOW = 1 << 26
"""Bytes of a window at most, of all n rows together. A copy of 64 MiB takes a millisecond over PCIe: many times
what it takes to launch it and the computation. A power of two, as torch rounds pinned memory up to one."""

BUFFERS = 2
"""Staging buffers: one is filled while the other is computed on."""

Compute = Callable[[Window, Sequence[Tensor], Sequence[Tensor]], object]
"""Takes a window, and the codes and scales of its pieces on the device, as the operations do."""


class HostMemoryError(RuntimeError):
    """The CPU memory for the deltas cannot be had."""


class StreamedBank(DeltaBank):
    """n deltas over this rank's partitions in CPU memory, pinned if `device` is a GPU.

    A window of the bank is one block of host memory and one copy. While window k is computed on, window
    k + 1 is copied in a side stream; on the device there is room for `BUFFERS` windows, whatever the bank's
    size. A window is always staged in the same buffer, so that the kernels meet the same addresses in
    every call (kernels/tables.py keeps what it made of them).

    All results are those of `Bank`, but for the order in which dots and gram add up in fp64: window by window.

    Args:
        n: number of tasks, 1 to 64.
        sizes: elements of each partition.
        codec: how deltas are stored.
        device: where θ is and the operations run.
        window_bytes: of a window at most, unless a single chunk of 32,768 elements takes more.
        beside: a bank on the same device that is never at work at the same time; its staging buffers are used if
            they are large enough.

    Raises:
        HostMemoryError: there is not as much (pinned) CPU memory.
        torch.OutOfMemoryError: the device has no room for the staging buffers.
    """

    def __init__(
        self,
        n: int,
        sizes: Sequence[int],
        codec: Codec,
        device: torch.device,
        window_bytes: int = WINDOW,
        beside: StreamedBank | None = None,
    ) -> None:
        super().__init__(n, device)
        self._codec = codec
        self._windows = list(cut(sizes, codec, window_bytes // n))
        self._copies: torch.cuda.Stream | None = copy_stream(device) if beside is None else beside._copies
        nbytes = n * max((window.row_bytes for window in self._windows), default=0)
        count = min(BUFFERS, len(self._windows))
        shared = [] if beside is None else beside._buffers[:count]
        enough = len(shared) == count and all(buffer.bytes.numel() >= nbytes for buffer in shared)
        self._buffers: list[Staging] = (
            shared if enough else [Staging(nbytes, device, self._copies) for _ in range(count)]
        )
        self._staged = [
            self._buffers[k % BUFFERS].bytes[: n * window.row_bytes].view(n, window.row_bytes)
            for k, window in enumerate(self._windows)
        ]
        views = [_views(rows, window, codec) for rows, window in zip(self._staged, self._windows, strict=True)]
        self._codes = [codes for codes, _ in views]
        self._scales = [scales for _, scales in views]
        self._shapes = [torch.empty((), device=device).expand(n, size) for size in sizes]
        """Per partition [n, numel] of no memory: what flat tensors are checked against."""
        self._host: list[Tensor] = []
        """Per window [n, row_bytes]."""
        pinned = device.type == "cuda"
        for window in self._windows:
            try:
                rows = torch.empty(n, window.row_bytes, dtype=torch.uint8, device="cpu", pin_memory=pinned)
            except RuntimeError as error:
                had, needed = self.nbytes, n * sum(window.row_bytes for window in self._windows)
                kind = "pinned CPU memory" if pinned else "CPU memory"
                raise HostMemoryError(
                    f"the bank needs {needed / 1e9:.1f} GB of {kind}, and only {had / 1e9:.1f} GB could be had"
                ) from error
            self._host.append(rows)

    @property
    def staged_bytes(self) -> int:
        """Bytes of the staging buffers."""
        return sum(buffer.bytes.numel() for buffer in self._buffers)

    def row(self, slot: int) -> list[Stored]:
        found = []
        for window, rows in zip(self._windows, self._host, strict=True):
            codes, scales = _views(rows[slot : slot + 1], window, self._codec)
            for i, piece in enumerate(window.pieces):
                found.append(Stored(piece.partition, codes[i][0], scales[i][0] if scales else None, piece.start))
        return found

    def _storage(self) -> Iterable[Tensor]:
        return self._host

    def _capture_(
        self, slot: int, theta: Sequence[Tensor], base: Sequence[Tensor], low: Sequence[Tensor]
    ) -> Tensor:
        check_update("theta", theta, base, low, self._shapes)
        check_disjoint({"theta": theta, "low": low}, {"base": base})
        squares = torch.zeros((), dtype=torch.float64, device=self._device)
        compute = compute_stream(self._device)
        for k, window in enumerate(self._windows):
            buffer = self._buffers[k % BUFFERS]
            flats = (_of(window, flat) for flat in (theta, base, low))
            with buffer.turn(compute):
                squares += ops.capture_(self._codes[k], self._scales[k], slot, *flats)
            with buffer.turn(self._copies):
                self._host[k][slot].copy_(self._staged[k][slot], non_blocking=True)
        for buffer in self._buffers:
            with buffer.turn(compute):  # what comes next in the stream finds the host's rows complete
                pass
        return squares

    def _weighted_sum_(
        self, out: Sequence[Tensor], base: Sequence[Tensor], alpha: Tensor, low: Sequence[Tensor]
    ) -> None:
        check_update("out", out, base, low, self._shapes)
        check_disjoint({"out": out, "low": low}, {"base": unless_same(base, out)})

        def compute(window: Window, codes: Sequence[Tensor], scales: Sequence[Tensor]) -> None:
            ops.weighted_sum_(_of(window, out), _of(window, base), codes, scales, alpha, _of(window, low))

        self._stream(compute)

    def _dots(self, grad: Sequence[Tensor]) -> Tensor:
        check_flat("grad", grad, self._shapes, GRAD_DTYPES)
        totals = torch.zeros(self.n, dtype=torch.float64, device=self._device)
        self._stream(lambda window, codes, scales: totals.add_(ops.delta_dots(_of(window, grad), codes, scales)))
        return totals

    def _gram(self) -> Tensor:
        totals = torch.zeros(self.n, self.n, dtype=torch.float64, device=self._device)
        self._stream(lambda window, codes, scales: totals.add_(ops.delta_gram(codes, scales)))
        return totals

    def _stream(self, compute: Compute) -> None:
        """Compute on every window in turn, the next ones being copied to the device meanwhile."""
        stream = compute_stream(self._device)
        for k in range(len(self._buffers)):
            self._fill(k)
        for k, window in enumerate(self._windows):
            with self._buffers[k % BUFFERS].turn(stream):
                compute(window, self._codes[k], self._scales[k])
            if k + BUFFERS < len(self._windows):
                self._fill(k + BUFFERS)

    def _fill(self, k: int) -> None:
        """Copy window k to its staging buffer."""
        with self._buffers[k % BUFFERS].turn(self._copies):
            self._staged[k].copy_(self._host[k], non_blocking=True)


def _of(window: Window, flat: Sequence[Tensor]) -> list[Tensor]:
    """The pieces of flat tensors; of an absent list, none."""
    return [flat[piece.partition][piece.start : piece.stop] for piece in window.pieces] if flat else []


def _views(rows: Tensor, window: Window, codec: Codec) -> tuple[list[Tensor], list[Tensor]]:
    """Per piece, codes [n, numel] and scales [n, blocks] within rows [n, row_bytes]."""
    sizes = [piece.numel for piece in window.pieces]
    codes = _columns(rows.view(codec.dtype), window.codes, sizes)
    if not codec.scaled:
        return codes, []
    return codes, _columns(rows.view(torch.float32), window.scales, [blocks(size) for size in sizes])


def _columns(rows: Tensor, starts: Sequence[int], sizes: Sequence[int]) -> list[Tensor]:
    firsts = [start // rows.element_size() for start in starts]
    return [rows[:, first : first + size] for first, size in zip(firsts, sizes, strict=True)]
