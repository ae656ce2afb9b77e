"""⟨δ_i, δ_j⟩ for all pairs."""

import pytest
import torch
from bank_truth import CODECS, SCALED, TASKS, assert_close, assert_same_bits, random_bank

from avil_fast import ops

ROUNDINGS = 140  # up to 64 products per lane and the decoding of both sides


def _check(n: int, codec: str, **options) -> None:
    bank = random_bank(n, codec, **options)
    gram = ops.delta_gram(bank.codes, bank.scales)
    truth = sum(d @ d.T for d in bank.deltas)
    assert gram.dtype == torch.float64
    assert torch.equal(gram, gram.T)
    assert_close(gram, truth, sum(d.abs() @ d.abs().T for d in bank.deltas), ROUNDINGS)


@pytest.mark.parametrize("n", TASKS)
@pytest.mark.parametrize("codec", CODECS)
def test_matches_float64(backend: str, codec: str, n: int) -> None:
    _check(n, codec)


@pytest.mark.parametrize("codec", CODECS)
def test_every_number_of_tasks(backend: str, codec: str) -> None:
    for n in range(1, 65, 9 if backend == "reference" else 1):
        _check(n, codec, sizes=(333,))


@pytest.mark.parametrize("codec", CODECS)
def test_unaligned_starts(backend: str, codec: str) -> None:
    _check(5, codec, shift=3)


@pytest.mark.parametrize("codec", CODECS)
def test_threads_change_no_bit(isa: str, codec: str) -> None:
    bank, results = random_bank(5, codec, (200_001, 7)), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(ops.delta_gram(bank.codes, bank.scales))
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


def test_a_nan_shows_in_its_row_and_column_alone(backend: str) -> None:
    codes = torch.randn(6, 1000)
    codes[2, 999] = float("nan")
    nan = ops.delta_gram([codes], []).isnan()
    assert nan[2].all()
    assert nan[:, 2].all()
    assert nan.sum() == 11


@pytest.mark.parametrize("codec", SCALED)
def test_permuting_the_tasks_permutes_the_result(backend: str, codec: str) -> None:
    bank, order = random_bank(11, codec), torch.randperm(11)
    gram = ops.delta_gram(bank.codes, bank.scales)
    permuted = ops.delta_gram([c[order] for c in bank.codes], [s[order] for s in bank.scales])
    torch.testing.assert_close(permuted, gram[order][:, order], rtol=1e-12, atol=1e-9)


def test_opcheck(backend: str) -> None:
    bank = random_bank(3, "bf16", (300, 5))
    torch.library.opcheck(torch.ops.avil_fast.delta_gram.default, (bank.codes, bank.scales))
