"""Parameters whole, one after the other, out of the partitions that ranks have parts of."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence

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


def _read_(out: Tensor, rows: Sequence[Stored], partition: int, offset: int) -> None:
    """Fill `out` with the elements of a partition from `offset` on, decoded."""
    for stored in rows:
        first = max(offset, stored.start)
        last = min(offset + out.numel(), stored.start + stored.values.numel())
        if stored.partition == partition and first < last:
            begin = (first - stored.start) // BLOCK * BLOCK  # a scale is that of a whole block
            values = decode(stored.values, stored.scales, begin, last - stored.start, out.dtype)
            out[first - offset : last - offset] = values[first - stored.start - begin :]
