"""What the operations demand of their arguments; every failure names the argument and both values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

import torch
from torch import Tensor

from avil_fast.ops.encoding import LARGEST, blocks

CODE_DTYPES = (torch.float64, torch.float32, torch.bfloat16, *LARGEST)
FLOAT_DTYPES = (torch.float64, torch.float32)
LOW_DTYPES = (torch.bfloat16, torch.float16)
GRAD_DTYPES = (*FLOAT_DTYPES, torch.bfloat16)
MAX_TASKS = 64

_Region = tuple[int, int, str, bool]
"""First byte, the one after the last, the argument's name, and whether it is written."""


def _fail(argument: str, is_: object, should: object) -> None:
    raise ValueError(f"{argument} is {is_}, but must be {should}")


def check_bank(codes: Sequence[Tensor], scales: Sequence[Tensor]) -> int:
    """Check a bank's partitions and return n, the number of deltas in each."""
    if not codes:
        _fail("codes", "an empty list", "one tensor [n, numel] per partition")
    n = codes[0].shape[0] if codes[0].dim() == 2 else 0
    if codes[0].dtype in LARGEST:
        if len(scales) != len(codes):
            _fail("scales", f"a list of {len(scales)}", f"one tensor per partition, {len(codes)}")
    elif scales:
        _fail("scales", f"a list of {len(scales)}", f"empty for codes of {codes[0].dtype}")
    for p, row in enumerate(codes):
        name = f"codes[{p}]"
        if row.dim() != 2:
            _fail(f"{name}.shape", tuple(row.shape), "[n, numel]")
        if not 1 <= row.shape[0] <= MAX_TASKS:
            _fail(f"the number of deltas in {name}", row.shape[0], f"from 1 to {MAX_TASKS}")
        if row.shape[0] != n:
            _fail(f"the number of deltas in {name}", row.shape[0], f"{n} as in codes[0]")
        if row.dtype not in CODE_DTYPES:
            _fail(f"{name}.dtype", row.dtype, f"one of {CODE_DTYPES}")
        if row.dtype != codes[0].dtype:
            _fail(f"{name}.dtype", row.dtype, f"{codes[0].dtype} as in codes[0]")
        if row.device != codes[0].device:
            _fail(f"{name}.device", row.device, f"{codes[0].device} as in codes[0]")
        if row.numel() and row.stride(1) != 1:
            _fail(f"{name}.stride(1)", row.stride(1), "1 (contiguous rows)")
        if scales:
            _check_like(f"scales[{p}]", scales[p], (n, blocks(row.shape[1])), (torch.float32,), row.device)
            if scales[p].numel() and scales[p].stride(1) != 1:
                _fail(f"scales[{p}].stride(1)", scales[p].stride(1), "1 (contiguous rows)")
    return n


def check_flat(
    name: str,
    tensors: Sequence[Tensor],
    codes: Sequence[Tensor],
    dtypes: Sequence[torch.dtype],
    optional: bool = False,
) -> None:
    """Check one contiguous flat tensor [numel] per partition of the bank, all of one dtype."""
    if optional and not tensors:
        return
    if len(tensors) != len(codes):
        _fail(name, f"a list of {len(tensors)}", f"one tensor per partition, {len(codes)}")
    for p, tensor in enumerate(tensors):
        _check_like(f"{name}[{p}]", tensor, (codes[p].shape[1],), dtypes, codes[p].device)
        if tensor.dtype != tensors[0].dtype:
            _fail(f"{name}[{p}].dtype", tensor.dtype, f"{tensors[0].dtype} as in {name}[0]")
        if not tensor.is_contiguous():
            _fail(f"{name}[{p}].stride()", tensor.stride(), "(1,) (contiguous)")


def check_update(
    name: str, written: Sequence[Tensor], base: Sequence[Tensor], low: Sequence[Tensor], codes: Sequence[Tensor]
) -> None:
    """Check θ, or whatever is written in its place, the base and the low-precision copies of θ."""
    check_flat(name, written, codes, FLOAT_DTYPES)
    check_flat("base", base, codes, (written[0].dtype,) if written else FLOAT_DTYPES)
    check_flat("low", low, codes, LOW_DTYPES, optional=True)


def check_alpha(alpha: Tensor, n: int, device: torch.device) -> None:
    """[n] floats, contiguous, on the device of the deltas.

    Raises:
        ValueError: it is something else; says what.
    """
    _check_like("alpha", alpha, (n,), FLOAT_DTYPES, device)
    if not alpha.is_contiguous():
        _fail("alpha.stride()", alpha.stride(), "(1,) (contiguous)")


def check_rows_apart(name: str, tensors: Sequence[Tensor]) -> None:
    """A row that is written must not reach into the next."""
    for p, row in enumerate(tensors):
        if row.shape[0] > 1 and row.stride(0) < row.shape[1]:
            _fail(f"{name}[{p}].stride(0)", row.stride(0), f"{row.shape[1]} or more (rows apart)")


def check_disjoint(written: Mapping[str, Sequence[Tensor]], read: Mapping[str, Sequence[Tensor]]) -> None:
    """No tensor that is written may share memory with another, of those written or read.

    Told by the bytes from a tensor's first element to its last. One pass over them in order: with
    thousands of partitions, comparing all pairs would take longer than the operation.
    """
    regions = [
        (*_extent(tensor), f"{name}[{p}]", changes)
        for lists, changes in ((written, True), (read, False))
        for name, tensors in lists.items()
        for p, tensor in enumerate(tensors)
        if tensor.numel()
    ]
    regions.sort(key=itemgetter(0))
    none: _Region = (0, 0, "", False)
    any_region = written_region = none  # what reaches furthest so far, and what does of those written
    for region in regions:
        start, stop, _, changes = region
        other = any_region if changes else written_region
        if other[1] > start:
            first, second = (region, other) if changes else (other, region)
            raise ValueError(
                f"{first[2]} at bytes {first[0]:#x} to {first[1]:#x} overlaps {second[2]} "
                f"at bytes {second[0]:#x} to {second[1]:#x}, but they must not share memory"
            )
        if stop > any_region[1]:
            any_region = region
        if changes and stop > written_region[1]:
            written_region = region


def unless_same(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """Those that are not, byte for byte, the memory of the other at their index."""
    return [a for a, b in zip(tensors, others, strict=True) if _extent(a) != _extent(b)]


def _check_like(
    name: str, tensor: Tensor, shape: tuple[int, ...], dtypes: Sequence[torch.dtype], device: torch.device
) -> None:
    if tuple(tensor.shape) != shape:
        _fail(f"{name}.shape", tuple(tensor.shape), shape)
    if tensor.dtype not in dtypes:
        _fail(f"{name}.dtype", tensor.dtype, " or ".join(str(d) for d in dtypes))
    if tensor.device != device:
        _fail(f"{name}.device", tensor.device, f"{device} as the deltas")


def _extent(tensor: Tensor) -> tuple[int, int]:
    """First byte of a tensor and the one after its last."""
    if tensor.is_contiguous():
        return tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
