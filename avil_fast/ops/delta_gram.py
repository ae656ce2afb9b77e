"""`delta_gram`: ⟨δ_i, δ_j⟩ for all pairs, how much the tasks agree about where θ should go."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avil_fast.ops.backend import implementation
from avil_fast.ops.checks import check_bank
from avil_fast.ops.encoding import chunk_for, decode
from avil_fast.ops.registry import register


def delta_gram(codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """G_ij = ⟨δ_i, δ_j⟩ over all partitions, as stored (decoded).

    Args:
        codes: per partition [n, numel], the deltas: fp32, bf16, int8 or e4m3, rows contiguous.
        scales: per partition [n, ceil(numel / 256)] fp32 for int8 and e4m3 codes, else an empty list.

    Returns:
        [n, n] fp64, symmetric, on the device of the deltas. cos(δ_i, δ_j) = G_ij / √(G_ii G_jj).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
    """
    result: Tensor = _op(list(codes), list(scales))
    return result


def _checked(codes: list[Tensor], scales: list[Tensor]) -> Tensor:
    check_bank(codes, scales)
    result: Tensor = implementation("delta_gram", reference, codes[0])(codes, scales)
    return result


def _fake(codes: list[Tensor], scales: list[Tensor]) -> Tensor:
    n = codes[0].shape[0]
    return codes[0].new_empty((n, n), dtype=torch.float64)


_op = register("delta_gram", _checked, _fake)


def reference(codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """The formula in plain torch, in fp64, a chunk at a time."""
    n = codes[0].shape[0]
    gram = torch.zeros((n, n), dtype=torch.float64, device=codes[0].device)
    step = chunk_for(codes[0]) // 16  # [n ≤ 64, step] in fp64 stays within 1 MiB on the CPU
    for p, row in enumerate(codes):
        for start in range(0, row.shape[1], step):
            stop = min(start + step, row.shape[1])
            rows = [decode(row[i], scales[p][i] if scales else None, start, stop, torch.float64) for i in range(n)]
            stacked = torch.stack(rows)
            gram += stacked @ stacked.T
    return gram.triu() + gram.triu(1).T  # a matrix product may round (i, j) and (j, i) apart
