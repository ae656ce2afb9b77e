"""The second stage of every sum: what the programs left, added in one order, the same in every run."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PROGRAMS = 1024
"""Programs of a first stage at most, the same on every device: they decide how a sum is cut."""


ROWS, WIDTH = 64, 32
"""Rows and columns that a program of this stage adds at a time."""


@triton.jit(do_not_specialize=["count", "width"])
def reduce_kernel(partial, totals, count, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    column = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    sums = tl.zeros((ROWS, WIDTH), tl.float64)
    for first in range(0, count, ROWS):
        row = first + tl.arange(0, ROWS)
        inside = (row < count)[:, None] & (column < width)[None, :]
        sums += tl.load(partial + row[:, None] * width + column[None, :], mask=inside, other=0)
    tl.store(totals + column, tl.sum(sums, axis=0), mask=column < width)


def columns(partial: Tensor) -> Tensor:
    """Sums [width] of the columns of partial [count, width] fp64."""
    count, width = partial.shape
    totals = torch.empty(width, dtype=torch.float64, device=partial.device)
    reduce_kernel[(triton.cdiv(width, WIDTH),)](partial, totals, count, width, ROWS=ROWS, WIDTH=WIDTH)
    return totals
