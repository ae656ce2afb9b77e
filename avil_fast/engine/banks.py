"""Where a run's bank is kept, and what to change when it does not fit there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avil_fast.deltas.bank import Bank
from avil_fast.deltas.base import DeltaBank
from avil_fast.deltas.codec import CODECS, Codec
from avil_fast.deltas.streamed import HostMemoryError, StreamedBank
from avil_fast.errors import AvilError


def make_bank(n: int, sizes: Sequence[int], codec: Codec, device: torch.device, where: str) -> DeltaBank:
    """A bank of n deltas.

    Args:
        n: number of tasks, 1 to 64.
        sizes: elements of each partition.
        codec: how deltas are stored.
        device: where the model is.
        where: the setting `deltas.device`, "model" or "cpu".

    Raises:
        AvilError: there is no room for it.
    """
    streamed = where == "cpu" and device.type == "cuda"
    try:
        return StreamedBank(n, sizes, codec, device) if streamed else Bank(n, sizes, codec, device)
    except HostMemoryError as error:
        advice = [*_smaller(n, sizes, codec), "deltas.device: model"]
        raise AvilError(
            f"{error}; set {' or '.join(advice)}, or give this process more memory that it may lock"
        ) from error
    except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, an allocator's own on the CPU
        if "allocate" not in str(error):
            raise
        if streamed:
            raise AvilError(
                f"{device} has no room left for the two windows that deltas are streamed through; "
                f"lower batch_size or train with fewer tasks"
            ) from error
        advice = _smaller(n, sizes, codec)
        if device.type == "cuda":
            advice.append("deltas.device: cpu (streamed, slower)")
        raise AvilError(
            f"{n} deltas in {codec.name} take {_gigabytes(n, sizes, codec)}, more than {device} has left; "
            + (f"set {' or '.join(advice)}" if advice else "train with fewer tasks")
        ) from error


def _smaller(n: int, sizes: Sequence[int], codec: Codec) -> list[str]:
    """The settings under which the bank would be smaller, and how large it would be."""
    return [
        f"deltas.dtype: {other.name} ({_gigabytes(n, sizes, other)})"
        for other in CODECS.values()
        if other.bytes_per_element < codec.bytes_per_element
    ]


def _gigabytes(n: int, sizes: Sequence[int], codec: Codec) -> str:
    return f"{n * sum(sizes) * codec.bytes_per_element / 1e9:.1f} GB"
