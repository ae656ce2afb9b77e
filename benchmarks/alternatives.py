"""What somebody would write in torch instead of each operation, per codec. Slow or not, each is plausible.

Each takes `Buffers` and returns its result, for the check that comes before any ratio. One that would need
types that torch does not mix, or more memory than the machine has, is absent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from avil_fast.deltas.codec import CODECS
from avil_fast.ops.encoding import BLOCK, LARGEST
from benchmarks.buffers import Buffers

Alternative = Callable[[Buffers], Tensor]
PIECES = 64
"""Tensors that a model's parameters come in, for the foreach variants."""


def decoded(b: Buffers, i: int) -> Tensor:
    """δ_i as a float tensor; codes with scales are multiplied out."""
    return _decode(b.codes[i], b.scales[0][i] if b.scales else None)


def _decode(codes: Tensor, scales: Tensor | None) -> Tensor:
    if scales is None:
        return codes
    return (_float(codes).view(-1, BLOCK) * scales.unsqueeze(1)).view(-1)


def _float(codes: Tensor) -> Tensor:
    """e4m3 as fp32: torch promotes int8 by itself, but not e4m3."""
    return codes.float() if codes.dtype == torch.float8_e4m3fn else codes


def _stacked(b: Buffers) -> Tensor:
    if not b.scales:
        return b.codes
    return (_float(b.codes).view(b.n, -1, BLOCK) * b.scales[0].unsqueeze(2)).view(b.n, -1)


def _pieces(tensor: Tensor) -> list[Tensor]:
    return list(tensor.chunk(PIECES))


def sum_add(b: Buffers) -> Tensor:
    """A loop of add_, as task arithmetic is usually written."""
    b.out.copy_(b.base)
    for i, coefficient in enumerate(b.coefficients):
        b.out.add_(decoded(b, i), alpha=coefficient)
    return b.out


def sum_foreach(b: Buffers) -> Tensor:
    """torch._foreach_add_ over the model's tensors, a delta at a time."""
    outs = _pieces(b.out)
    torch._foreach_copy_(outs, _pieces(b.base))
    for i, coefficient in enumerate(b.coefficients):
        torch._foreach_add_(outs, _pieces(b.codes[i]), alpha=coefficient)
    return b.out


def sum_addmv(b: Buffers) -> Tensor:
    """One matrix-vector product with the stacked deltas."""
    return torch.addmv(b.base, _stacked(b).float().T, b.alpha.float(), out=b.out)


def sum_stack(b: Buffers) -> Tensor:
    """Stack, multiply, sum: model-merging tools."""
    return b.base + (_stacked(b) * b.alpha.float().unsqueeze(1)).sum(0)


def dots_loop(b: Buffers) -> Tensor:
    """A loop of dot."""
    return torch.stack([torch.dot(decoded(b, i).float(), b.base) for i in range(b.n)])


def dots_foreach(b: Buffers) -> Tensor:
    """torch._foreach_mul over the model's tensors, a delta at a time, and sums."""
    grads = _pieces(b.base)
    return torch.stack(
        [torch.stack([p.sum() for p in torch._foreach_mul(_pieces(b.codes[i]), grads)]).sum() for i in range(b.n)]
    )


def dots_mv(b: Buffers) -> Tensor:
    """One matrix-vector product with the stacked deltas, in their own type where they are floats."""
    stacked = _stacked(b)
    return torch.mv(stacked, b.base.to(stacked.dtype))


def _weighted_sum(
    out: Tensor, base: Tensor, rows: list[Tensor], scales: list[Tensor | None], alpha: list[Tensor]
) -> Tensor:
    total = alpha[0] * _decode(rows[0], scales[0])
    for coefficient, row, scale in zip(alpha[1:], rows[1:], scales[1:], strict=True):
        total = total + coefficient * _decode(row, scale)
    return out.copy_(base + total)


def _dots(grad: Tensor, rows: list[Tensor], scales: list[Tensor | None]) -> Tensor:
    return torch.stack([(_decode(row, scale) * grad).sum() for row, scale in zip(rows, scales, strict=True)])


def _capture(codes: Tensor, scales: Tensor | None, theta: Tensor, base: Tensor) -> Tensor:
    delta = theta - base
    if scales is None:
        codes.copy_(delta)
    else:
        blocks = delta.view(-1, BLOCK)
        largest = LARGEST[codes.dtype]
        scale = blocks.abs().amax(1) / largest
        quotient = (blocks / scale.unsqueeze(1)).clamp(-largest, largest)
        codes.view(-1, BLOCK).copy_(quotient.round() if codes.dtype == torch.int8 else quotient)
        scales.copy_(scale)
    theta.copy_(base)
    return delta.square().sum()


@cache
def _compiled(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    torch._dynamo.config.recompile_limit = 64  # a number of tasks and a codec each
    return torch.compile(plain, dynamic=False, fullgraph=True)


def _row_scales(b: Buffers) -> list[Tensor | None]:
    return list(b.scales[0].unbind()) if b.scales else [None] * b.n


def sum_compile(b: Buffers) -> Tensor:
    """torch.compile with n unrolled and the output given: one fused loop."""
    return _compiled(_weighted_sum)(b.out, b.base, b.rows, _row_scales(b), list(b.alpha.float().unbind()))


def dots_compile(b: Buffers) -> Tensor:
    """torch.compile with n unrolled."""
    return _compiled(_dots)(b.base, b.rows, _row_scales(b))


def capture_plain(b: Buffers) -> Tensor:
    """Subtract, encode, restore, in turn."""
    return _capture(b.codes[0], b.scales[0][0] if b.scales else None, b.out, b.base)


def capture_compile(b: Buffers) -> Tensor:
    """The same lines, compiled."""
    return _compiled(_capture)(b.codes[0], b.scales[0][0] if b.scales else None, b.out, b.base)


def gram_matmul(b: Buffers) -> Tensor:
    """One matrix product of the stacked deltas with themselves."""
    stacked = _stacked(b).float()
    return stacked @ stacked.T


ALTERNATIVES: dict[str, dict[str, Alternative]] = {
    "weighted_sum_": {
        "add_": sum_add,
        "foreach": sum_foreach,
        "addmv": sum_addmv,
        "stack": sum_stack,
        "compile": sum_compile,
    },
    "delta_dots": {"dot": dots_loop, "foreach": dots_foreach, "mv": dots_mv, "compile": dots_compile},
    "capture_": {"in turn": capture_plain, "compile": capture_compile},
    "delta_gram": {"matmul": gram_matmul},
}


def alternatives(operation: str, codec: str) -> dict[str, Alternative]:
    """Those that there are for a codec: torch has no foreach function that takes scales."""
    found = ALTERNATIVES[operation]
    return {name: f for name, f in found.items() if not (CODECS[codec].scaled and name == "foreach")}
