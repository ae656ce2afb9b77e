"""Where a run's banks are kept, and what to change when it does not fit there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avil_fast.deltas.bank import Bank
from avil_fast.deltas.base import DeltaBank
from avil_fast.deltas.codec import CODECS, Codec
from avil_fast.deltas.streamed import HostMemoryError, StreamedBank
from avil_fast.errors import AvilError


def make_banks(
    n: int, groups: Sequence[Sequence[int]], codec: Codec, device: torch.device, where: str
) -> list[DeltaBank]:
    """A bank of n deltas for each group.

    Args:
        n: number of tasks, 1 to 64; 0 where no deltas are kept.
        groups: elements of each partition, by group.
        codec: how deltas are stored.
        device: where the model is.
        where: the setting `deltas.device`, "model" or "cpu".

    Raises:
        AvilError: there is no room for them.
    """
    streamed = n > 0 and where == "cpu" and device.type == "cuda"
    sizes = [size for group in groups for size in group]
    try:
        return _streamed(n, groups, codec, device) if streamed else [Bank(n, own, codec, device) for own in groups]
    except HostMemoryError as error:
        advice = [*_smaller(n, sizes, codec), "deltas.device: model"]
        raise AvilError(
            f"{error}; set {' or '.join(advice)}, or raise the limit on locked memory (ulimit -l)"
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


def _streamed(n: int, groups: Sequence[Sequence[int]], codec: Codec, device: torch.device) -> list[DeltaBank]:
    """Banks that take turns in the same staging buffers, the largest so far."""
    made: list[StreamedBank] = []
    for sizes in groups:
        beside = max(made, key=lambda bank: bank.staged_bytes, default=None)
        made.append(StreamedBank(n, sizes, codec, device, beside=beside))
    return list(made)


def _smaller(n: int, sizes: Sequence[int], codec: Codec) -> list[str]:
    """The settings under which the bank would be smaller, and how large it would be."""
    return [
        f"deltas.dtype: {other.name} ({_gigabytes(n, sizes, other)})"
        for other in CODECS.values()
        if other.bytes_per_element < codec.bytes_per_element
    ]


def _gigabytes(n: int, sizes: Sequence[int], codec: Codec) -> str:
    return f"{n * sum(sizes) * codec.bytes_per_element / 1e9:.1f} GB"
