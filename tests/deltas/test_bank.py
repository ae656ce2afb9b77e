"""The bank stores what it says it stores."""

from __future__ import annotations

import pytest
import torch

from avil_fast.deltas.bank import Bank
from avil_fast.deltas.codec import CODECS, Codec

CPU = torch.device("cpu")


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
def test_bytes_are_n_times_e_times_N(codec: Codec) -> None:
    bank = Bank(5, [10_000, 0, 4096], codec, CPU)
    assert bank.nbytes == pytest.approx(5 * codec.bytes_per_element * 14_096, rel=0.01)


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
def test_large_rows_start_at_different_places_of_a_page(codec: Codec) -> None:
    codes, _ = codec.allocate(8, 1 << 20, CPU)
    starts = [row.data_ptr() % 4096 for row in codes]
    assert len(set(starts)) == 8
    assert all(start % 64 == 0 for start in starts)
    assert codes.untyped_storage().nbytes() <= 1.01 * codes.numel() * codes.element_size()


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
def test_round_trip(codec: Codec) -> None:
    torch.manual_seed(0)
    base = [torch.randn(1000), torch.randn(37)]
    deltas = [[0.01 * torch.randn_like(b) for b in base] for _ in range(3)]
    bank = Bank(3, [1000, 37], codec, CPU)
    for slot, delta in enumerate(deltas):
        theta = [b + d for b, d in zip(base, delta, strict=True)]
        norm = bank.capture_(slot, theta, base)
        assert norm == pytest.approx(float(torch.cat(delta).norm()), rel=1e-4)
        assert all(torch.equal(t, b) for t, b in zip(theta, base, strict=True))
    out = [torch.full_like(b, float("nan")) for b in base]
    bank.weighted_sum_(out, base, [0.5, -2.0, 1.0])
    for p, b in enumerate(base):
        expected = b + 0.5 * deltas[0][p] - 2 * deltas[1][p] + deltas[2][p]
        torch.testing.assert_close(
            out[p], expected, rtol=0, atol={"fp32": 1e-6, "bf16": 5e-4, "int8": 8e-4, "fp8": 5e-3}[codec.name]
        )
    gram = bank.gram()
    assert gram[0][1] == gram[1][0]
    assert gram[2][2] == pytest.approx(float(torch.cat(deltas[2]).square().sum()), rel=0.01)
