"""Rules on a few numbers: weights, shares of steps, the α that stays, a softmax's step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avil_fast.config import AlphaConfig
from avil_fast.methods.scalar_rules import reweighted, settled, share_out, shares
from avil_fast.methods.tartan import steps


@given(
    st.lists(st.floats(0.01, 5), min_size=1, max_size=6).flatmap(
        lambda w: st.tuples(st.just(w), st.lists(st.floats(-800, 800), min_size=len(w), max_size=len(w)))
    )
)
def test_weights_that_are_raised_keep_their_mean_and_order(given_: tuple[list[float], list[float]]) -> None:
    weight, factors = given_
    found = reweighted(weight, factors)
    assert sum(found) == pytest.approx(len(weight))
    assert min(found) >= 0
    same = reweighted(weight, [factors[0]] * len(weight))
    mean = sum(weight) / len(weight)
    assert same == pytest.approx([w / mean for w in weight])


def test_a_weight_of_zero_stays_zero() -> None:
    assert reweighted([0.0, 1.0, 1.0], [5.0, 0.0, 0.0]) == pytest.approx([0.0, 1.5, 1.5])
    assert reweighted([0.0, 0.0], [1.0, 1.0]) == [0.0, 0.0]
    assert reweighted([1.0, 1.0], [-math.inf, -math.inf]) == [1.0, 1.0]


@given(st.integers(0, 200), st.lists(st.floats(0, 10), min_size=1, max_size=6).filter(lambda of: sum(of) > 1))
def test_steps_are_shared_out_whole_and_all_of_them(total: int, shares: list[float]) -> None:
    found = share_out(total, shares)
    assert sum(found) == total
    for count, share in zip(found, shares, strict=True):
        assert abs(count - total * share / sum(shares)) <= 1 + 1e-9
        assert count == 0 or share > 0


@pytest.mark.parametrize(
    ("alphas", "config", "expected"),
    [
        ([[9.0, 9.0], [0.2, 0.6], [0.4, 0.8]], {}, [0.3, 0.7]),
        ([[0.9, 0.1]], {}, [0.9, 0.5]),
        ([[0.9, 0.1]], {"init": "1/n"}, [0.9, 0.25]),
        ([[0.1, 0.1]], {"bounds": (0.0, 0.4)}, [0.1, 0.4]),
        ([[-0.1, 0.6]], {"bounds": None}, [-0.1, 0.6]),
    ],
    ids=[
        "mean of the later half",
        "the target's floor",
        "of its start",
        "within the bounds",
        "the target's alone",
    ],
)
def test_the_alpha_that_stays(alphas: list[list[float]], config: dict[str, Any], expected: list[float]) -> None:
    assert settled(alphas, 1, AlphaConfig(**{"init": "one"} | config)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("alpha", "init", "expected"),
    [
        ([2.0, 0.9, 0.5], 1.0, [1.0, 1.0, 1.0]),
        ([0.4, 0.9, 1.2], 1.0, [0.8, 1.0, 1.0]),
        ([0.0, 0.1, -0.1], 1.0, [0.0, 1.0, 0.0]),
        ([0.2, 0.1, 0.05], 0.25, [1.0, 1.0, 0.4]),
        ([-1.0, -2.0, -1.0], 1.0, [0.0, 1.0, 0.0]),
    ],
    ids=["from half on", "in proportion", "none below 0", "of where it began", "all below 0"],
)
def test_the_shares_of_the_steps_by_alpha(alpha: list[float], init: float, expected: list[float]) -> None:
    assert shares(alpha, 1, init) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-9, 9, allow_subnormal=False)), min_size=1, max_size=6))
def test_tartan_s_step_is_the_gradient_of_its_softmax(pairs: list[tuple[float, float]]) -> None:
    logits = torch.tensor([phi for phi, _ in pairs], dtype=torch.float64, requires_grad=True)
    given_ = torch.tensor([g for _, g in pairs], dtype=torch.float64)
    weight = len(pairs) * torch.softmax(logits, 0)
    largest = float(given_.abs().max())
    if largest > 0:
        (weight * given_ / largest).sum().backward()
    expected = [0.0] * len(pairs) if logits.grad is None else (-0.5 * logits.grad).tolist()
    assert steps(weight.tolist(), given_.tolist(), 0.5) == pytest.approx(expected, abs=1e-12)
