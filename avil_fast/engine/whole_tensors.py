"""Parameters whole, one after the other, out of the partitions that ranks have parts of."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from avil_fast.deltas.base import Stored
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.state import Placement
from avil_fast.ops.encoding import BLOCK, decode


def whole_tensors(
    names: Container[str],
    rows: Sequence[Stored],
    placement: Placement,
    ranks: Ranks,
    dtype: torch.dtype,
    device: torch.device,
) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of the parameters with these names. All ranks take part, for each in turn.

    Args:
        rows: what this rank has of the partitions, maybe in codes.
        placement: where the parameters lie in these.
    """
    slices: dict[int, list[list[int]]] = {}
    for index, *rest in placement.slices.tolist():
        slices.setdefault(index, []).append(rest)
    for index, (name, shape) in enumerate(placement.parameters.items()):
        if name in names:
            whole = torch.zeros(math.prod(shape), dtype=dtype, device=device)
            for start, stop, partition, offset in slices.get(index, []):
                _read_(whole[start:stop], rows, partition, offset)
            yield name, ranks.sum_(whole).view(shape)


def overlaid(
    under: Iterable[tuple[str, Tensor]],
    over: Iterator[tuple[str, Tensor]],
    combine: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of `under`, combined with that of `over` where this has the name, in the same order."""
    following = next(over, None)
    for name, tensor in under:
        if following is not None and following[0] == name:
            yield name, combine(tensor, following[1])
            following = next(over, None)
        else:
            yield name, tensor


def _read_(out: Tensor, rows: Sequence[Stored], partition: int, offset: int) -> None:
    """Fill `out` with the elements of a partition from `offset` on, decoded."""
    for stored in rows:
        first = max(offset, stored.start)
        last = min(offset + out.numel(), stored.start + stored.values.numel())
        if stored.partition == partition and first < last:
            begin = (first - stored.start) // BLOCK * BLOCK  # a scale is that of a whole block
            values = decode(stored.values, stored.scales, begin, last - stored.start, out.dtype)
            out[first - offset : last - offset] = values[first - stored.start - begin :]
