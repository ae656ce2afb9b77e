"""`weighted_sum_`: out ← base + Σ_i α_i δ_i, the α step's and the merge's operation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avil_fast.ops.backend import implementation
from avil_fast.ops.checks import check_alpha, check_bank, check_disjoint, check_update, unless_same
from avil_fast.ops.encoding import chunk_for, decode
from avil_fast.ops.registry import register


def weighted_sum_(
    out: Sequence[Tensor],
    base: Sequence[Tensor],
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    alpha: Tensor,
    low: Sequence[Tensor] = (),
) -> None:
    """out[p] ← base[p] + Σ_i α_i δ_i[p], and low[p] ← out[p] rounded, for every partition p.

    αVIL, arXiv 2405.07769, the argument of the target's dev loss. The sum runs in the dtype of `base`, in
    the order of the tasks, and `base` is added last: one rounding at the size of θ, not n.

    Args:
        out: per partition [numel], fp32 (fp64 on the reference), written. May be `base` itself.
        base: per partition [numel], of the dtype of `out`.
        codes: per partition [n, numel], the deltas: fp32, bf16, int8 or e4m3, rows contiguous.
        scales: per partition [n, ceil(numel / 256)] fp32 for int8 and e4m3 codes, else an empty list.
        alpha: [n], fp32 or fp64, on the same device.
        low: per partition [numel], bf16 or fp16, written with the cast of `out`; or an empty list.

    Raises:
        ValueError: an argument's shape, dtype, device or memory does not fit; nothing was written.
    """
    _op(list(out), list(base), list(codes), list(scales), alpha, list(low))


def _checked(
    out: list[Tensor],
    base: list[Tensor],
    codes: list[Tensor],
    scales: list[Tensor],
    alpha: Tensor,
    low: list[Tensor],
) -> None:
    n = check_bank(codes, scales)
    check_update("out", out, base, low, codes)
    check_alpha(alpha, n, codes[0].device)
    check_disjoint(
        {"out": out, "low": low},
        {"base": unless_same(base, out), "codes": codes, "scales": scales, "alpha": [alpha]},
    )
    implementation("weighted_sum_", reference, out[0], codes[0])(out, base, codes, scales, alpha, low)


def _fake(
    out: list[Tensor],
    base: list[Tensor],
    codes: list[Tensor],
    scales: list[Tensor],
    alpha: Tensor,
    low: list[Tensor],
) -> None:
    return None


_op = register("weighted_sum_", _checked, _fake, mutates=("out", "low"))


def reference(
    out: Sequence[Tensor],
    base: Sequence[Tensor],
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    alpha: Tensor,
    low: Sequence[Tensor],
) -> None:
    """The formula in plain torch, a chunk at a time."""
    coefficients = alpha.to(base[0].dtype).unbind()
    chunk = chunk_for(codes[0])
    for p, row in enumerate(codes):
        for start in range(0, row.shape[1], chunk):
            part = slice(start, min(start + chunk, row.shape[1]))
            total = torch.zeros_like(base[p][part])
            for i, coefficient in enumerate(coefficients):
                row_scales = scales[p][i] if scales else None
                total += coefficient * decode(row[i], row_scales, part.start, part.stop, total.dtype)
            out[p][part] = base[p][part] + total
            if low:
                low[p][part] = out[p][part]
