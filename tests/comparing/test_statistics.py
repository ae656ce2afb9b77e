"""Paired tests and their correction."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from avil_fast.comparing.statistics import holm, paired_p, standings


def test_p_is_that_of_a_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=10), rng.normal(0.3, 1, size=10)
    assert paired_p(first, second) == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert paired_p(first, second) == pytest.approx(paired_p(second, first))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([1.0], [2.0]),
        ([1.0, 1.0], [0.49, 0.49]),
        ([0.9, 0.8], [0.5, 0.6]),  # two pairs, with a spread
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [0.5, 1.5, 2.5]),
        ([1.0, 2.0, math.nan], [0.5, 0.6, 0.7]),
    ],
)
def test_no_p_of_fewer_than_three_pairs_or_without_a_spread(first: list[float], second: list[float]) -> None:
    assert math.isnan(paired_p(first, second))
    assert {own.verdict(False) for own in standings({"a": first, "b": second}).values()} == {"equal"}


def test_holm_s_correction() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    found = holm([0.02, math.nan, 0.01])
    assert found[0] == pytest.approx(0.02)
    assert found[2] == pytest.approx(0.02)
    assert math.isnan(found[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_corrected_p_are_no_smaller_and_in_the_same_order(p: list[float]) -> None:
    found = holm(p)
    assert all(raw <= own <= 1 for raw, own in zip(p, found, strict=True))
    order = sorted(range(len(p)), key=p.__getitem__)
    assert [found[i] for i in order] == sorted(found)


def test_each_stands_against_the_best_of_the_others() -> None:
    values = {"low": [0.1, 0.2, 0.1], "high": [0.8, 0.9, 0.85], "near": [0.79, 0.91, 0.83]}
    found = standings(values)
    assert [found[name].rival for name in values] == ["high", "near", "high"]
    assert found["low"].difference == pytest.approx(0.4 / 3 - 0.85)
    assert found["low"].verdict(lower_is_better=False) == "worse"
    assert found["low"].verdict(lower_is_better=True) == "better"
    assert found["high"].verdict(lower_is_better=False) == "equal"
    assert found["low"].sd == pytest.approx(np.std(values["low"], ddof=1))
    assert standings(values, lower_is_better=True)["high"].rival == "low"


def test_a_seed_without_a_value_is_left_out_of_its_pair() -> None:
    first, second = [0.1, math.nan, 0.4, 0.3], [0.2, 0.9, 0.3, 0.6]
    assert paired_p(first, second) == pytest.approx(paired_p([0.1, 0.4, 0.3], [0.2, 0.3, 0.6]))
    found = standings({"a": first, "b": second, "none": [math.nan] * 4})
    assert found["a"].mean == pytest.approx(0.8 / 3)
    assert found["a"].sd == pytest.approx(np.std([0.1, 0.4, 0.3], ddof=1))
    assert [found[name].rival for name in ("a", "b", "none")] == ["b", "a", "b"]
    assert math.isnan(found["none"].p)


def test_one_seed_tells_nothing() -> None:
    found = standings({"a": [0.5], "b": [0.6]})
    assert found["a"].verdict(lower_is_better=False) == "equal"
    assert math.isnan(found["a"].p)
