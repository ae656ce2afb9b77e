"""`capture_`: slot ← encode(θ − base), θ ← base, and ‖θ − base‖² on the way: the end of a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avil_fast.ops.backend import implementation
from avil_fast.ops.checks import check_bank, check_disjoint, check_rows_apart, check_update
from avil_fast.ops.encoding import chunk_for, encode_
from avil_fast.ops.registry import register


def capture_(
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    slot: int,
    theta: Sequence[Tensor],
    base: Sequence[Tensor],
    low: Sequence[Tensor] = (),
) -> Tensor:
    """δ_slot[p] ← encode(theta[p] − base[p]), theta[p] ← base[p], low[p] ← cast of base[p].

    αVIL, arXiv 2405.07769, "collect": δ_i = θ_i − θ, then return to θ exactly (bit for bit).

    Args:
        codes: per partition [n, numel], fp32, bf16, int8 or e4m3, rows contiguous; row `slot` is written.
        scales: per partition [n, ceil(numel / 256)] fp32 for int8 and e4m3 codes, else an empty list.
        slot: which row, from 0 to n − 1.
        theta: per partition [numel], fp32 (fp64 on the reference), overwritten with `base`.
        base: per partition [numel], of the dtype of `theta`.
        low: per partition [numel], bf16 or fp16, overwritten with the cast of `base`; or an empty list.

    Returns:
        ‖θ − base‖² before encoding, over all partitions: a scalar, fp64.

    Raises:
        ValueError: an argument's shape, dtype, device or memory does not fit; nothing was written.
    """
    result: Tensor = _op(list(codes), list(scales), slot, list(theta), list(base), list(low))
    return result


def _checked(
    codes: list[Tensor],
    scales: list[Tensor],
    slot: int,
    theta: list[Tensor],
    base: list[Tensor],
    low: list[Tensor],
) -> Tensor:
    n = check_bank(codes, scales)
    if not 0 <= slot < n:
        raise ValueError(f"slot is {slot}, but must be from 0 to {n - 1}")
    check_update("theta", theta, base, low, codes)
    check_rows_apart("codes", codes)
    check_rows_apart("scales", scales)
    check_disjoint({"theta": theta, "low": low}, {"base": base, "codes": codes, "scales": scales})
    rows, row_scales = [row[slot] for row in codes], [scale[slot] for scale in scales]
    check_disjoint({"codes": rows, "scales": row_scales}, {"base": base})
    run = implementation("capture_", reference, theta[0], codes[0])
    result: Tensor = run(codes, scales, slot, theta, base, low)
    return result


def _fake(
    codes: list[Tensor],
    scales: list[Tensor],
    slot: int,
    theta: list[Tensor],
    base: list[Tensor],
    low: list[Tensor],
) -> Tensor:
    return theta[0].new_empty((), dtype=torch.float64)


_op = register("capture_", _checked, _fake, mutates=("codes", "scales", "theta", "low"))


def reference(
    codes: Sequence[Tensor],
    scales: Sequence[Tensor],
    slot: int,
    theta: Sequence[Tensor],
    base: Sequence[Tensor],
    low: Sequence[Tensor],
) -> Tensor:
    """The formula in plain torch, a chunk at a time."""
    squares = torch.zeros((), dtype=torch.float64, device=theta[0].device)
    chunk = chunk_for(codes[0])
    for p, row in enumerate(codes):
        for start in range(0, row.shape[1], chunk):
            part = slice(start, min(start + chunk, row.shape[1]))
            delta = theta[p][part] - base[p][part]
            encode_(row[slot], scales[p][slot] if scales else None, start, delta)
            squares += delta.double().square().sum()
            theta[p][part] = base[p][part]
            if low:
                low[p][part] = base[p][part]
    return squares
