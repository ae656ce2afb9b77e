"""`delta_dots`: ⟨g, δ_i⟩ for all i, the gradient of the target's dev loss with respect to α."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avil_fast.ops.backend import implementation
from avil_fast.ops.checks import GRAD_DTYPES, check_bank, check_flat
from avil_fast.ops.encoding import chunk_for, decode
from avil_fast.ops.registry import register


def delta_dots(grad: Sequence[Tensor], codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """⟨g, δ_i⟩ = Σ_p Σ_k g[p]_k δ_i[p]_k for every task i.

    By the chain rule ∂L(θ + Σ α_i δ_i)/∂α_i = ⟨∇_θ L, δ_i⟩. Products are summed in fp32 within a block
    (lane by lane within a chunk on a GPU) and in fp64 across, in a fixed order that does not depend on the
    number of threads. NaN and infinities in g or δ show in the result.

    Args:
        grad: per partition [numel], fp32 or bf16 (fp64 on the reference).
        codes: per partition [n, numel], the deltas: fp32, bf16, int8 or e4m3, rows contiguous.
        scales: per partition [n, ceil(numel / 256)] fp32 for int8 and e4m3 codes, else an empty list.

    Returns:
        [n] fp64, on the device of the deltas.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
    """
    result: Tensor = _op(list(grad), list(codes), list(scales))
    return result


def _checked(grad: list[Tensor], codes: list[Tensor], scales: list[Tensor]) -> Tensor:
    check_bank(codes, scales)
    check_flat("grad", grad, codes, GRAD_DTYPES)
    result: Tensor = implementation("delta_dots", reference, codes[0], grad[0])(grad, codes, scales)
    return result


def _fake(grad: list[Tensor], codes: list[Tensor], scales: list[Tensor]) -> Tensor:
    return codes[0].new_empty(codes[0].shape[0], dtype=torch.float64)


_op = register("delta_dots", _checked, _fake)


def reference(grad: Sequence[Tensor], codes: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """The formula in plain torch, in fp64, a chunk at a time."""
    n = codes[0].shape[0]
    totals = torch.zeros(n, dtype=torch.float64, device=codes[0].device)
    chunk = chunk_for(codes[0])
    for p, row in enumerate(codes):
        for start in range(0, row.shape[1], chunk):
            stop = min(start + chunk, row.shape[1])
            part = grad[p][start:stop].double()
            for i in range(n):
                row_scales = scales[p][i] if scales else None
                totals[i] += torch.dot(part, decode(row[i], row_scales, start, stop, torch.float64))
    return totals
