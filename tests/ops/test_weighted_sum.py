"""out ← base + Σ α_i δ_i."""

import pytest
import torch
from bank_truth import (
    CODECS,
    SCALED,
    SIZES,
    TASKS,
    assert_close,
    assert_same_bits,
    poisoned,
    random_bank,
    random_flats,
)
from torch import Tensor

from avil_fast import ops


def _truth(bank, base: list[Tensor], alpha: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Per partition the result in float64, and the magnitude of its terms."""
    return [
        (b.double() + alpha.double() @ d, b.double().abs() + alpha.double().abs() @ d.abs())
        for b, d in zip(base, bank.deltas, strict=True)
    ]


@pytest.mark.parametrize("n", TASKS)
@pytest.mark.parametrize("codec", CODECS)
def test_matches_float64(backend: str, codec: str, n: int) -> None:
    bank, base, out, alpha = random_bank(n, codec), random_flats(), poisoned(), torch.randn(n)
    ops.weighted_sum_(out, base, bank.codes, bank.scales, alpha)
    for result, (truth, magnitude) in zip(out, _truth(bank, base, alpha), strict=True):
        assert_close(result, truth, magnitude, 2 * n + 2)


@pytest.mark.parametrize("codec", CODECS)
def test_every_number_of_tasks(backend: str, codec: str) -> None:
    for n in range(1, 65):
        bank, base, out = random_bank(n, codec, (333,)), random_flats((333,)), poisoned((333,))
        ops.weighted_sum_(out, base, bank.codes, bank.scales, torch.ones(n))
        truth, magnitude = _truth(bank, base, torch.ones(n))[0]
        assert_close(out[0], truth, magnitude, 2 * n + 2)


@pytest.mark.parametrize("low_dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("codec", CODECS)
def test_low_is_the_cast_of_out(backend: str, codec: str, low_dtype: torch.dtype) -> None:
    bank, base = random_bank(3, codec), random_flats()
    out, low = poisoned(), poisoned(dtype=low_dtype)
    ops.weighted_sum_(out, base, bank.codes, bank.scales, torch.randn(3), low)
    for result, cast in zip(out, low, strict=True):
        assert_same_bits(cast, result.to(low_dtype))


@pytest.mark.parametrize("sizes", [SIZES, (4096, 512)], ids=["odd rows", "rows that begin on 16 bytes"])
@pytest.mark.parametrize("shift", [1, 3])
@pytest.mark.parametrize("codec", CODECS)
def test_unaligned_starts_change_nothing(backend: str, codec: str, shift: int, sizes: tuple[int, ...]) -> None:
    bank, base = random_bank(5, codec, sizes, shift=shift), random_flats(sizes, shift=shift)
    alpha, out, low = torch.randn(5), poisoned(sizes, shift), poisoned(sizes, shift, torch.bfloat16)
    ops.weighted_sum_(out, base, bank.codes, bank.scales, alpha, low)
    aligned, aligned_low = poisoned(sizes), poisoned(sizes, dtype=torch.bfloat16)
    copies = [codes.clone() for codes in bank.codes]
    ops.weighted_sum_(aligned, [b.clone() for b in base], copies, bank.scales, alpha, aligned_low)
    for a, b in zip([*out, *low], [*aligned, *aligned_low], strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("codec", CODECS)
def test_in_place(backend: str, codec: str) -> None:
    bank, base, out, alpha = random_bank(6, codec), random_flats(), poisoned(), torch.randn(6)
    ops.weighted_sum_(out, base, bank.codes, bank.scales, alpha)
    ops.weighted_sum_(base, base, bank.codes, bank.scales, alpha)
    for a, b in zip(base, out, strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("codec", SCALED)
def test_memory_around_the_outputs_is_left_alone(backend: str, codec: str) -> None:
    bank, base = random_bank(2, codec, (1000,)), random_flats((1000,))
    arena, low_arena = torch.full((1064,), 7.0), torch.full((1064,), 7.0).bfloat16()
    ops.weighted_sum_([arena[32:1032]], base, bank.codes, bank.scales, torch.ones(2), [low_arena[32:1032]])
    for memory in (arena, low_arena):
        assert torch.all(memory[:32] == 7)
        assert torch.all(memory[1032:] == 7)


def test_streamed_stores_write_what_plain_stores_do(isa: str) -> None:
    size = (1 << 22) + 777  # csrc/segments.h: kCached, and a tail
    bank, base, alpha = random_bank(2, "bf16", (size,)), random_flats((size,)), torch.randn(2)
    out, low = poisoned((size,)), poisoned((size,), dtype=torch.float16)
    ops.weighted_sum_(out, base, bank.codes, bank.scales, alpha, low)
    ops.weighted_sum_(base, base, bank.codes, bank.scales, alpha)  # in place: never streamed
    assert_same_bits(out[0], base[0])
    assert_same_bits(low[0], base[0].half())


@pytest.mark.parametrize("codec", CODECS)
def test_threads_change_no_bit(isa: str, codec: str) -> None:
    size = (400_001,)
    bank, base, alpha, results = random_bank(4, codec, size), random_flats(size), torch.randn(4), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        out = poisoned(size)
        ops.weighted_sum_(out, base, bank.codes, bank.scales, alpha)
        results.append(out[0])
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


def test_a_nan_or_infinity_in_a_delta_shows(backend: str) -> None:
    codes = torch.zeros(2, 700)
    codes[0, 5], codes[1, 650] = float("nan"), float("inf")
    out = poisoned((700,))
    ops.weighted_sum_(out, [torch.zeros(700)], [codes], [], torch.ones(2))
    assert out[0][5].isnan()
    assert out[0][650].isinf()
    assert out[0].isfinite().sum() == 698


def test_zero_alpha_gives_base(backend: str) -> None:
    bank, base, out = random_bank(3, "fp32"), random_flats(), poisoned()
    ops.weighted_sum_(out, base, bank.codes, bank.scales, torch.zeros(3))
    for a, b in zip(out, base, strict=True):
        assert torch.equal(a, b)


def test_order_of_tasks_matters_to_rounding_alone(backend: str) -> None:
    bank, base, alpha, order = random_bank(7, "bf16"), random_flats(), torch.randn(7), torch.randperm(7)
    out = poisoned(SIZES)
    ops.weighted_sum_(out, base, [codes[order] for codes in bank.codes], [], alpha[order])
    for result, (truth, magnitude) in zip(out, _truth(bank, base, alpha), strict=True):
        assert_close(result, truth, magnitude, 16)


def test_opcheck(backend: str) -> None:
    bank, base, out = random_bank(2, "int8", (300,)), random_flats((300,)), random_flats((300,))
    arguments = (out, base, bank.codes, bank.scales, torch.ones(2), [torch.zeros(300).bfloat16()])
    torch.library.opcheck(torch.ops.avil_fast.weighted_sum_.default, arguments)
