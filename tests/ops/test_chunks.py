"""Partitions of several of the chunks in which kernels share out their work."""

import pytest
import torch
from bank_truth import CODECS, assert_close, assert_same_bits, poisoned, random_bank, random_flats

from avil_fast import ops
from avil_fast.ops import capture

SIZES = (2 * 32768 + 777, 5, 32768)
"""CHUNK in kernels/tables.py and kTile in csrc/segments.h are 32768."""


@pytest.mark.parametrize("codec", CODECS)
def test_weighted_sum(backend: str, codec: str) -> None:
    bank, base, out, alpha = random_bank(3, codec, SIZES), random_flats(SIZES), poisoned(SIZES), torch.randn(3)
    ops.weighted_sum_(out, base, bank.codes, bank.scales, alpha)
    for result, b, d in zip(out, base, bank.deltas, strict=True):
        magnitude = b.double().abs() + alpha.double().abs() @ d.abs()
        assert_close(result, b.double() + alpha.double() @ d, magnitude, 8)


@pytest.mark.parametrize("codec", CODECS)
def test_delta_dots_and_gram(backend: str, codec: str) -> None:
    bank, grad = random_bank(3, codec, SIZES), random_flats(SIZES)
    dots = sum(d @ g.double() for d, g in zip(bank.deltas, grad, strict=True))
    gram = sum(d @ d.T for d in bank.deltas)
    size = gram.diagonal().sqrt()
    grad_size = sum(g.double().square().sum() for g in grad).sqrt()
    assert torch.all((ops.delta_dots(grad, bank.codes, bank.scales) - dots).abs() <= 1e-6 * size * grad_size)
    found = ops.delta_gram(bank.codes, bank.scales)
    assert torch.all((found - gram).abs() <= 1e-5 * size.outer(size))


@pytest.mark.parametrize("codec", CODECS)
def test_capture(backend: str, codec: str) -> None:
    base, results = random_flats(SIZES), []
    theta = [b + 1e-3 * torch.randn_like(b) for b in base]
    for run in (ops.capture_, capture.reference):
        bank, ours = random_bank(2, codec, SIZES), [t.clone() for t in theta]
        squares = run(bank.codes, bank.scales, 1, ours, base, [])
        results.append([*(c[1] for c in bank.codes), *(s[1] for s in bank.scales), *ours, squares])
    for a, b in zip(results[0][:-1], results[1][:-1], strict=True):
        assert_same_bits(a, b)
    torch.testing.assert_close(results[0][-1], results[1][-1], rtol=1e-9, atol=0)
