"""slot ← encode(θ − base), θ ← base, ‖θ − base‖²."""

import pytest
import torch
from bank_truth import CODECS, SCALED, SIZES, assert_same_bits, poisoned, random_bank, random_flats
from torch import Tensor

from avil_fast import ops
from avil_fast.ops import capture


def _any_bits(size: int) -> Tensor:
    """fp32 of every kind: subnormal, huge, infinite, NaN."""
    return torch.randint(-(2**31), 2**31, (size,)).to(torch.int32).view(torch.float32)


def _compare(theta: list[Tensor], base: list[Tensor], codec: str, low_dtype: torch.dtype, n: int = 3) -> None:
    """The backend in force against the reference: codes, scales, θ and low bit for bit."""
    sizes = tuple(t.numel() for t in theta)
    results = []
    for run in (ops.capture_, capture.reference):
        bank = random_bank(n, codec, sizes)
        kept = [codes[[0, *range(2, n)]].clone() for codes in bank.codes]
        ours, low = [t.clone() for t in theta], poisoned(sizes, dtype=low_dtype)
        squares = run(bank.codes, bank.scales, 1, ours, base, low)
        for codes, before in zip(bank.codes, kept, strict=True):
            assert_same_bits(codes[[0, *range(2, n)]], before)
        row = [codes[1] for codes in bank.codes]
        results.append(([*row, *(s[1] for s in bank.scales), *ours, *low], squares))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        assert_same_bits(a, b)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=0, equal_nan=True)


@pytest.mark.parametrize("low_dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("codec", CODECS)
def test_bit_for_bit(backend: str, codec: str, low_dtype: torch.dtype) -> None:
    base = random_flats()
    _compare([b + 1e-3 * torch.randn_like(b) for b in base], base, codec, low_dtype)


@pytest.mark.parametrize("low_dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("codec", CODECS)
def test_bit_for_bit_on_any_bits(backend: str, codec: str, low_dtype: torch.dtype) -> None:
    _compare([_any_bits(5000)], [_any_bits(5000)], codec, low_dtype)


@pytest.mark.parametrize("codec", CODECS)
def test_bit_for_bit_on_tiny_deltas(backend: str, codec: str) -> None:
    """Blocks whose scale is subnormal or underflows to zero, and halves that round to even."""
    exponents = torch.arange(-150, -100).repeat_interleave(256)
    theta = torch.ldexp(torch.randn(len(exponents)), exponents)
    theta[:512] = torch.arange(512) * 0.5  # scale 1.0 with amax 127: quotients of .5
    theta[:256] = torch.cat([torch.arange(-127, 128) / 2 + 0.0, torch.tensor([127.0])])
    _compare([theta], [torch.zeros_like(theta)], codec, torch.float16)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_delta_that_is_not_finite_shows(backend: str, codec: str, value: float) -> None:
    theta, base = [torch.randn(600)], [torch.zeros(600)]
    theta[0][300] = value
    bank, out = random_bank(1, codec, (600,)), poisoned((600,))
    squares = ops.capture_(bank.codes, bank.scales, 0, theta, base)
    assert not squares.isfinite()
    ops.weighted_sum_(out, base, bank.codes, bank.scales, torch.ones(1))
    assert not out[0][300].isfinite()
    assert out[0][:256].isfinite().all()


@pytest.mark.parametrize("codec", CODECS)
def test_unaligned_starts(backend: str, codec: str) -> None:
    theta, base = random_flats(shift=1), random_flats(shift=3)
    truth = [t.double() - b.double() for t, b in zip(theta, base, strict=True)]
    bank, low = random_bank(2, codec, shift=3), poisoned(shift=1, dtype=torch.bfloat16)
    squares = ops.capture_(bank.codes, bank.scales, 0, theta, base, low)
    torch.testing.assert_close(squares, sum(t.square().sum() for t in truth), rtol=1e-6, atol=0)
    for t, b, cast in zip(theta, base, low, strict=True):
        assert torch.equal(t, b)
        assert torch.equal(cast, b.bfloat16())


@pytest.mark.parametrize("codec", CODECS)
def test_what_was_captured_comes_back(backend: str, codec: str) -> None:
    theta, base, bank, out = random_flats(), random_flats(), random_bank(1, codec), poisoned()
    wanted = [t.clone() for t in theta]
    ops.capture_(bank.codes, bank.scales, 0, theta, base)
    ops.weighted_sum_(out, base, bank.codes, bank.scales, torch.ones(1))
    tolerance = {"fp32": 1e-6, "bf16": 2.0**-8, "int8": 0.5 / 127, "fp8": 2.0**-4}[codec]
    for result, t, b in zip(out, wanted, base, strict=True):
        worst = tolerance * (t - b).abs().max() + 1e-6 if t.numel() else 0
        assert torch.all((result - t).abs() <= worst)


@pytest.mark.parametrize("codec", CODECS)
def test_threads_change_no_bit(isa: str, codec: str) -> None:
    size, results = (600_001,), []
    theta, base = random_flats(size), random_flats(size)
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        bank, ours = random_bank(1, codec, size), [theta[0].clone()]
        squares = ops.capture_(bank.codes, bank.scales, 0, ours, base)
        results.append((squares, bank.codes[0]))
    for squares, codes in results[1:]:
        assert_same_bits(squares, results[0][0])
        assert_same_bits(codes, results[0][1])


@pytest.mark.parametrize("codec", SCALED)
def test_no_delta(backend: str, codec: str) -> None:
    base, bank = random_flats(), random_bank(1, codec)
    assert ops.capture_(bank.codes, bank.scales, 0, [b.clone() for b in base], base).item() == 0
    assert all(codes.double().count_nonzero() == 0 for codes in bank.codes)
    assert all(scales.count_nonzero() == 0 for scales in bank.scales)


def test_int8_quotients_beyond_the_largest_code_are_clamped(backend: str) -> None:
    """A subnormal scale is rounded: 190 of the smallest numbers over 127 is 1 of them, and the quotient 190."""
    theta, codes, scales = (
        torch.tensor([190.0, -190.0, 3.0]) * 2.0**-149,
        torch.zeros(1, 3).char(),
        torch.ones(1, 1),
    )
    ops.capture_([codes], [scales], 0, [theta], [torch.zeros(3)])
    assert scales.item() == 2.0**-149
    assert codes.tolist() == [[127, -127, 3]]


def test_opcheck(backend: str) -> None:
    bank, theta, base = random_bank(2, "int8", SIZES), random_flats(), random_flats()
    arguments = (bank.codes, bank.scales, 1, theta, base, [t.half() for t in base])
    torch.library.opcheck(torch.ops.avil_fast.capture_.default, arguments)
