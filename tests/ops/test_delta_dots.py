"""⟨g, δ_i⟩ for all i."""

import pytest
import torch
from bank_truth import CODECS, SIZES, TASKS, assert_close, assert_same_bits, random_bank, random_flats
from torch import Tensor

from avil_fast import ops

ROUNDINGS = 40  # 16 products per lane of a block, their conversion and the gradient's
GRADS = [torch.float32, torch.bfloat16]


def _truth(bank, grad: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The result in float64, and the magnitude of its terms."""
    pairs = list(zip(bank.deltas, grad, strict=True))
    return sum(d @ g.double() for d, g in pairs), sum(d.abs() @ g.double().abs() for d, g in pairs)


@pytest.mark.parametrize("dtype", GRADS)
@pytest.mark.parametrize("n", TASKS)
@pytest.mark.parametrize("codec", CODECS)
def test_matches_float64(backend: str, codec: str, n: int, dtype: torch.dtype) -> None:
    bank, grad = random_bank(n, codec), random_flats(dtype=dtype)
    dots = ops.delta_dots(grad, bank.codes, bank.scales)
    assert dots.dtype == torch.float64
    assert_close(dots, *_truth(bank, grad), ROUNDINGS)


@pytest.mark.parametrize("codec", CODECS)
def test_every_number_of_tasks(backend: str, codec: str) -> None:
    for n in range(1, 65):
        bank, grad = random_bank(n, codec, (333,)), random_flats((333,))
        assert_close(ops.delta_dots(grad, bank.codes, bank.scales), *_truth(bank, grad), ROUNDINGS)


@pytest.mark.parametrize("sizes", [SIZES, (4096, 512)], ids=["odd rows", "rows that begin on 16 bytes"])
@pytest.mark.parametrize("shift", [1, 3])
@pytest.mark.parametrize("codec", CODECS)
def test_unaligned_starts_change_nothing(backend: str, codec: str, shift: int, sizes: tuple[int, ...]) -> None:
    """On a GPU, rows that all begin on 16 bytes are read by other code than those that do not."""
    bank, grad = random_bank(5, codec, sizes, shift=shift), random_flats(sizes, shift=shift)
    aligned = ops.delta_dots([g.clone() for g in grad], [c.clone() for c in bank.codes], bank.scales)
    assert_same_bits(ops.delta_dots(grad, bank.codes, bank.scales), aligned)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("position", [0, 255, 256, 8191, 9000])
@pytest.mark.parametrize("codec", CODECS)
def test_a_gradient_that_is_not_finite_shows(backend: str, codec: str, position: int, value: float) -> None:
    bank, grad = random_bank(5, codec, (9001,)), random_flats((9001,))
    grad[0][position] = value
    assert not ops.delta_dots(grad, bank.codes, bank.scales).isfinite().any()


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_it_shows_where_every_delta_is_zero(backend: str, dtype: torch.dtype) -> None:
    grad = torch.zeros(600)
    grad[300] = float("inf")
    zeros = torch.zeros(2, 600, dtype=dtype), torch.zeros(2, 3)
    assert ops.delta_dots([grad], [zeros[0]], [zeros[1]]).isnan().all()


@pytest.mark.parametrize("codec", CODECS)
def test_threads_change_no_bit(isa: str, codec: str) -> None:
    sizes = (300_001, 5, 99_999)
    bank, grad, results = random_bank(4, codec, sizes), random_flats(sizes), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(ops.delta_dots(grad, bank.codes, bank.scales))
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


@pytest.mark.parametrize("codec", CODECS)
def test_permuting_the_tasks_permutes_the_result(backend: str, codec: str) -> None:
    bank, grad, order = random_bank(11, codec), random_flats(), torch.randperm(11)
    dots = ops.delta_dots(grad, bank.codes, bank.scales)
    permuted = ops.delta_dots(grad, [c[order] for c in bank.codes], [s[order] for s in bank.scales])
    assert_same_bits(permuted, dots[order])


def test_all_partitions_empty(backend: str) -> None:
    empty = [torch.zeros(3, 0), torch.zeros(3, 0)]
    assert ops.delta_dots([torch.zeros(0), torch.zeros(0)], empty, []).tolist() == [0, 0, 0]


def test_small_terms_survive_among_many(backend: str) -> None:
    """fp32 all the way would lose them: 2²³ ones and then some are more than its 24 bits hold."""
    size = (1 << 23) + 3
    dots = ops.delta_dots([torch.ones(size)], [torch.ones(1, size)], [])
    assert dots.tolist() == [size]


def test_opcheck(backend: str) -> None:
    bank = random_bank(2, "int8", (300, 5))
    arguments = (random_flats((300, 5)), bank.codes, bank.scales)
    torch.library.opcheck(torch.ops.avil_fast.delta_dots.default, arguments)
