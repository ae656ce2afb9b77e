"""Properties that hold for any values."""

import torch
from bank_truth import SCALED, assert_close, poisoned, random_bank
from hypothesis import given, settings
from hypothesis import strategies as st

from avil_fast import ops


@given(codec=st.sampled_from(SCALED), scale=st.floats(-4, 4), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_linear_in_alpha(codec: str, scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    bank, zero, a, b = random_bank(4, codec, (777,)), [torch.zeros(777)], torch.randn(4), torch.randn(4)
    at_a, at_b, at_both = (poisoned((777,)) for _ in range(3))
    ops.weighted_sum_(at_a, zero, bank.codes, bank.scales, a)
    ops.weighted_sum_(at_b, zero, bank.codes, bank.scales, b)
    ops.weighted_sum_(at_both, zero, bank.codes, bank.scales, a + scale * b)
    magnitude = (a.abs() + abs(scale) * b.abs()).double() @ bank.deltas[0].abs()
    assert_close(at_both[0], at_a[0].double() + scale * at_b[0].double(), magnitude, 24)
