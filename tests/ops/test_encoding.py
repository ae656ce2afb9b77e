"""How a delta is stored: the reference codecs, against the definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avil_fast.ops.encoding import BLOCK, blocks, decode, encode_

DTYPES = pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
finite = st.floats(-(2.0**100), 2.0**100, width=32)


def _round_trip(
    delta: torch.Tensor, dtype: torch.dtype = torch.int8
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    codes = torch.zeros(delta.numel(), dtype=dtype)
    scales = torch.zeros(blocks(delta.numel()))
    encode_(codes, scales, 0, delta)
    return codes, scales, decode(codes, scales, 0, delta.numel(), torch.float32)


def test_blocks() -> None:
    assert [blocks(n) for n in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1)] == [0, 1, 1, 1, 2]


@given(values=st.lists(finite, min_size=1, max_size=600))
@settings(max_examples=50, deadline=None)
def test_error_is_half_a_step_at_most(values: list[float]) -> None:
    delta = torch.tensor(values)
    codes, scales, decoded = _round_trip(delta)
    assert codes.abs().max() <= 127
    step = scales.repeat_interleave(BLOCK)[: delta.numel()]
    # Half a step, and the rounding of quotient and product; steps below 2⁻¹²⁶ are themselves rounded.
    allowed = step * 0.5001 + 1e-36
    assert torch.all((decoded - delta).abs() <= allowed)


@given(values=st.lists(finite, min_size=1, max_size=600))
@settings(max_examples=50, deadline=None)
def test_error_of_e4m3_is_half_a_unit_at_most(values: list[float]) -> None:
    delta = torch.tensor(values)
    _, scales, decoded = _round_trip(delta, torch.float8_e4m3fn)
    step = scales.repeat_interleave(BLOCK)[: delta.numel()]
    # Four significant bits, or half of the smallest code 2⁻⁹; with room as above.
    allowed = torch.maximum(delta.abs() * 2.0**-4, step * 2.0**-10) * 1.0002 + 1e-35
    assert torch.all((decoded - delta).abs() <= allowed)


def test_largest_of_a_block_is_exact_and_sign_is_kept() -> None:
    delta = torch.tensor([127.0, -127.0, 64.0, -1.0, 0.0])
    codes, scales, decoded = _round_trip(delta)
    assert scales.tolist() == [1.0]
    assert codes.tolist() == [127, -127, 64, -1, 0]
    assert torch.equal(decoded, delta)


def test_halves_round_to_even() -> None:
    codes, _, _ = _round_trip(torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5]))
    assert codes.tolist() == [127, 0, 2, 2, 0, -2]


@DTYPES
def test_zeros_stay_zero(dtype: torch.dtype) -> None:
    codes, scales, decoded = _round_trip(torch.zeros(300), dtype)
    assert not codes.view(torch.uint8).any()
    assert not scales.any()
    assert not decoded.any()


@DTYPES
def test_one_bad_value_spoils_its_block_alone(dtype: torch.dtype) -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        delta = torch.ones(3 * BLOCK)
        delta[BLOCK + 7] = bad
        codes, _, decoded = _round_trip(delta, dtype)
        assert not codes[BLOCK : 2 * BLOCK].view(torch.uint8).any()
        assert decoded[BLOCK : 2 * BLOCK].isnan().all()
        assert decoded[:BLOCK].isfinite().all()
        assert decoded[2 * BLOCK :].isfinite().all()


@DTYPES
def test_encoding_in_parts_gives_the_same(dtype: torch.dtype) -> None:
    delta = torch.randn(3 * BLOCK + 10)
    codes, scales, _ = _round_trip(delta, dtype)
    parts, part_scales = torch.zeros_like(codes), torch.zeros_like(scales)
    encode_(parts, part_scales, 0, delta[: 2 * BLOCK])
    encode_(parts, part_scales, 2 * BLOCK, delta[2 * BLOCK :])
    assert torch.equal(parts.view(torch.uint8), codes.view(torch.uint8))
    assert torch.equal(part_scales, scales)
