"""Bad arguments: the error names the argument and both values, and nothing was written."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from avil_fast import ops
from avil_fast.ops.checks import check_flat

N, NUMEL = 3, 600


def _arguments(operation: str) -> dict:
    """Good arguments with int8 codes in two partitions."""
    flat = {name: [torch.ones(NUMEL), torch.ones(5)] for name in ("out", "base", "theta", "grad")}
    bank = {
        "codes": [torch.ones(N, NUMEL, dtype=torch.int8), torch.ones(N, 5, dtype=torch.int8)],
        "scales": [torch.ones(N, 3), torch.ones(N, 1)],
    }
    low = {"low": [torch.ones(NUMEL).bfloat16(), torch.ones(5).bfloat16()]}
    names = {
        "weighted_sum_": {**bank, **low, "out": flat["out"], "base": flat["base"], "alpha": torch.ones(N)},
        "delta_dots": {**bank, "grad": flat["grad"]},
        "capture_": {**bank, **low, "slot": 0, "theta": flat["theta"], "base": flat["base"]},
        "delta_gram": bank,
    }
    return names[operation]


def _in_first(change: Callable[[Tensor], Tensor]) -> Callable[[list[Tensor]], list[Tensor]]:
    return lambda tensors: [change(tensors[0]), *tensors[1:]]


def _without_scales(codes: list[Tensor]) -> list[Tensor]:
    return [c.float() for c in codes]


BANK = [
    ("codes", lambda _: [], "codes is an empty list"),
    ("codes", _in_first(lambda c: c[0]), "codes[0].shape is (600,), but must be [n, numel]"),
    ("codes", _in_first(lambda c: c[:0]), "the number of deltas in codes[0] is 0, but must be from 1 to 64"),
    ("codes", _in_first(lambda c: c.repeat(30, 1)), "the number of deltas in codes[0] is 90"),
    ("codes", _in_first(lambda c: c[:2]), "scales[0].shape is (3, 3), but must be (2, 3)"),
    ("codes", _in_first(lambda c: c.short()), "scales is a list of 2, but must be empty"),
    ("codes", lambda c: [c[0], c[1].float()], "codes[1].dtype is torch.float32, but must be torch.int8"),
    ("codes", lambda c: [c[0].short(), c[1].short()], "scales is a list of 2, but must be empty"),
    ("codes", _in_first(lambda c: c.repeat(1, 2)[:, ::2]), "codes[0].stride(1) is 2, but must be 1"),
    ("codes", _without_scales, "scales is a list of 2, but must be empty for codes of torch.float32"),
    (
        "codes",
        lambda c: [c[0], c[1].to(torch.float8_e4m3fn)],
        "codes[1].dtype is torch.float8_e4m3fn, but must be torch.int8",
    ),
    ("scales", lambda _: [], "scales is a list of 0, but must be one tensor per partition, 2"),
    ("scales", _in_first(lambda s: s[:, :2]), "scales[0].shape is (3, 2), but must be (3, 3)"),
    (
        "scales",
        _in_first(lambda s: s.double()),
        "scales[0].dtype is torch.float64, but must be torch.float32",
    ),
    ("scales", _in_first(lambda s: s.repeat(1, 2)[:, ::2]), "scales[0].stride(1) is 2, but must be 1"),
]


def _flat(name: str, wrong_dtype: str) -> list[tuple[str, Callable[[list[Tensor]], list[Tensor]], str]]:
    return [
        (name, lambda t: t[:1], f"{name} is a list of 1, but must be one tensor per partition, 2"),
        (name, _in_first(lambda t: t[:-1]), f"{name}[0].shape is (599,), but must be (600,)"),
        (name, _in_first(lambda t: t.int()), f"{name}[0].dtype is torch.int32, but must be {wrong_dtype}"),
        (name, _in_first(lambda t: t.repeat(2)[::2]), f"{name}[0].stride() is (2,), but must be (1,)"),
    ]


CASES = [
    *[(operation, *case) for operation in ("delta_dots", "delta_gram") for case in BANK],
    *[("weighted_sum_", *case) for case in _flat("out", "torch.float64 or torch.float32")],
    *[("weighted_sum_", *case) for case in _flat("base", "torch.float32")],
    *[("weighted_sum_", *case) for case in _flat("low", "torch.bfloat16 or torch.float16")],
    *[("capture_", *case) for case in _flat("theta", "torch.float64 or torch.float32")],
    *[("capture_", *case) for case in _flat("base", "torch.float32")],
    *[("delta_dots", *case) for case in _flat("grad", "torch.float64 or torch.float32 or torch.bfloat16")],
    ("weighted_sum_", "alpha", lambda a: a[:2], "alpha.shape is (2,), but must be (3,)"),
    ("weighted_sum_", "alpha", lambda a: a.int(), "alpha.dtype is torch.int32"),
    ("weighted_sum_", "alpha", lambda a: a.repeat(2)[::2], "alpha.stride() is (2,), but must be (1,)"),
    ("capture_", "slot", lambda _: 3, "slot is 3, but must be from 0 to 2"),
    ("capture_", "slot", lambda _: -1, "slot is -1, but must be from 0 to 2"),
    (
        "capture_",
        "codes",
        _in_first(lambda c: c[:1].expand(3, -1)),
        "codes[0].stride(0) is 0, but must be 600",
    ),
    (
        "capture_",
        "scales",
        _in_first(lambda s: s[:1].expand(3, -1)),
        "scales[0].stride(0) is 0, but must be 3",
    ),
]


@pytest.mark.parametrize(("operation", "argument", "change", "message"), CASES)
def test_bad_argument(operation: str, argument: str, change: Callable, message: str) -> None:
    arguments = _arguments(operation)
    arguments[argument] = change(arguments[argument])
    _fails(operation, arguments, re.escape(message))


def test_mixed_dtypes_in_a_list() -> None:
    arguments = _arguments("weighted_sum_")
    arguments["low"][1] = arguments["low"][1].half()
    message = "low[1].dtype is torch.float16, but must be torch.bfloat16 as in low[0]"
    _fails("weighted_sum_", arguments, re.escape(message))


def test_another_device() -> None:
    """Checked apart from the operations: torch runs those with a meta tensor as shape inference alone."""
    codes = [torch.ones(N, 5)]
    with pytest.raises(ValueError, match=r"grad\[0\]\.device is meta, but must be cpu as the deltas"):
        check_flat("grad", [torch.ones(5, device="meta")], codes, (torch.float32,))


OVERLAPS = [
    ("weighted_sum_", "out", "base", lambda arena: (arena[:600], arena[1:601])),
    ("weighted_sum_", "out", "base", lambda arena: (arena[599:1199], arena[:600])),
    ("weighted_sum_", "out", "out", lambda arena: (arena[:600], arena[599:604])),
    ("capture_", "theta", "base", lambda arena: (arena[:600], arena[:600])),
    ("capture_", "theta", "base", lambda arena: (arena[:600], arena[599:1199])),
]


@pytest.mark.parametrize(("operation", "first", "second", "views"), OVERLAPS)
def test_overlap(operation: str, first: str, second: str, views: Callable) -> None:
    arguments = _arguments(operation)
    a, b = views(torch.ones(1200))
    arguments[first][0] = a
    arguments[second][1 if first == second else 0] = b
    _fails(operation, arguments, r"\[\d\] at bytes 0x\w+ to 0x\w+ overlaps \w+\[\d\] at bytes 0x\w+ to 0x")


@pytest.mark.parametrize("operation", ["weighted_sum_", "capture_"])
def test_overlap_with_the_deltas(operation: str) -> None:
    arguments = _arguments(operation)
    arena = torch.ones(N, NUMEL)
    arguments |= {"codes": [arena, torch.ones(N, 5)], "scales": []}
    arguments["out" if operation == "weighted_sum_" else "theta"][0] = arena[2]
    _fails(operation, arguments, r"(out|theta)\[0\] at bytes 0x\w+ to 0x\w+ overlaps codes\[0\]")


def test_neighbours_may_touch_and_base_may_be_out() -> None:
    arena = torch.ones(1200)
    out = [arena[:600], arena[600:605]]
    ops.weighted_sum_(out, out, [torch.ones(2, 600), torch.ones(2, 5)], [], torch.ones(2))
    assert torch.all(arena[:605] == 3)
    assert torch.all(arena[605:] == 1)


def test_partitions_of_one_table() -> None:
    """Rows of a partition that interleave with those of the next, as views of one wide bank."""
    table, arena = torch.zeros(2, 605), torch.ones(605)
    codes, theta = [table[:, :600], table[:, 600:]], [arena[:600], arena[600:]]
    ops.capture_(codes, [], 1, theta, [torch.zeros(600), torch.zeros(5)])
    assert torch.all(table[1] == 1)
    assert torch.all(table[0] == 0)


def _fails(operation: str, arguments: dict, message: str) -> None:
    written = [t for name in ("out", "theta", "low", "codes", "scales") for t in arguments.get(name, [])]
    before = [t.clone() for t in written]
    with pytest.raises(ValueError, match=message):
        getattr(ops, operation)(**arguments)
    for now, then in zip(written, before, strict=True):
        assert torch.equal(now, then)
