"""Layouts, and the way from one to another."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avil_fast.deltas.ledger import Layout, copy_plan
from tests.deltas.layouts import Slices, flat, local, sharded

Memory = list[list[np.ndarray]]  # [rank][partition]


@st.composite
def groupings(draw, parameters: dict[str, int]) -> list[list[str]]:
    """The parameters in any order, cut into one to three groups."""
    names = draw(st.permutations(list(parameters)))
    cuts = sorted(draw(st.lists(st.integers(0, len(names)), max_size=2)))
    return [names[a:b] for a, b in itertools.pairwise([0, *cuts, len(names)])]


@st.composite
def layouts(draw, parameters: dict[str, int]) -> Slices:
    groups = draw(groupings(parameters))
    kind = draw(st.sampled_from(["flat", "sharded", "local", "shuffled"]))
    ranks = draw(st.integers(1, 5))
    if kind == "flat":
        return flat(parameters, ranks, groups, draw(st.integers(1, 4)))
    if kind == "sharded":
        return sharded(parameters, ranks, groups)
    if kind == "local":
        return local(parameters, groups)
    source = flat(parameters, ranks, groups)
    return source.in_order(draw(st.permutations(range(len(source.rows)))))


@st.composite
def three_layouts(draw) -> tuple[Slices, Slices, Slices]:
    numels = draw(st.lists(st.integers(0, 40), min_size=1, max_size=8))
    parameters = {f"p{i}": numel for i, numel in enumerate(numels)}
    return draw(layouts(parameters)), draw(layouts(parameters)), draw(layouts(parameters))


def plan_of(source: Slices, destination: Slices, rank: int | None = None) -> np.ndarray:
    return copy_plan(source.layout(), destination.layout(), rank)


def _empty(layout: Slices) -> Memory:
    return [[np.full(size, -1) for size in sizes] for sizes in layout.sizes]


def _filled(layout: Slices) -> Memory:
    """Every element holds parameter · 1000 + its index there; padding holds −1."""
    memory = _empty(layout)
    for parameter, start, stop, rank, partition, offset in layout.rows:
        memory[rank][partition][offset : offset + stop - start] = parameter * 1000 + np.arange(start, stop)
    return memory


def _apply(plan: np.ndarray, source: Memory, destination: Slices) -> Memory:
    memory = _empty(destination)
    for a, b, c, d, e, f, length in plan:
        into = memory[d][e][f : f + length]
        assert np.all(into == -1), "an element is written twice"
        assert length > 0
        into[:] = source[a][b][c : c + length]
    return memory


def _assert_equal(a: Memory, b: Memory) -> None:
    for x, y in zip(a, b, strict=True):
        for p, q in zip(x, y, strict=True):
            np.testing.assert_array_equal(p, q)


@given(three_layouts())
@settings(max_examples=150, deadline=None)
def test_plans_move_every_element_once_and_compose(three: tuple[Slices, Slices, Slices]) -> None:
    a, b, c = three
    at_b = _apply(plan_of(a, b), _filled(a), b)
    _assert_equal(at_b, _filled(b))
    _assert_equal(_apply(plan_of(b, c), at_b, c), _apply(plan_of(a, c), _filled(a), c))


@given(three_layouts())
@settings(max_examples=100, deadline=None)
def test_a_plan_and_its_inverse_give_the_identity(three: tuple[Slices, Slices, Slices]) -> None:
    a, b, _ = three
    there, back = plan_of(a, b), plan_of(b, a)
    _assert_equal(_apply(back, _apply(there, _filled(a), b), a), _filled(a))
    swapped = there[:, [3, 4, 5, 0, 1, 2, 6]]
    assert sorted(map(tuple, swapped)) == sorted(map(tuple, back))


@given(three_layouts())
@settings(max_examples=50, deadline=None)
def test_a_rank_gets_its_own_moves(three: tuple[Slices, Slices, Slices]) -> None:
    a, b, _ = three
    for rank in range(max(len(a.sizes), len(b.sizes))):
        plan = plan_of(a, b)
        mine = plan[(plan[:, 0] == rank) | (plan[:, 3] == rank)]
        assert plan_of(a, b, rank)[:, 6].sum() == mine[:, 6].sum()


def test_flat_is_padded_and_split_evenly() -> None:
    layout = flat({"a": 5, "b": 4}, ranks=2, alignment=3)
    assert layout.sizes == [[6], [6]]
    assert layout.rows.tolist() == [[0, 0, 5, 0, 0, 0], [1, 0, 1, 0, 0, 5], [1, 1, 4, 1, 0, 0]]


def test_sharded_splits_every_parameter() -> None:
    layout = sharded({"a": 5, "b": 1}, ranks=2)
    assert layout.sizes == [[4], [4]]
    assert layout.rows.tolist() == [[0, 0, 3, 0, 0, 0], [0, 3, 5, 1, 0, 0], [1, 0, 1, 0, 0, 3]]


def test_local_lays_a_group_end_to_end() -> None:
    layout = local({"a": 5, "b": 1, "c": 2}, [["c", "a"], ["b"]])
    assert layout.sizes == [[7, 1]]
    assert layout.rows.tolist() == [[0, 0, 5, 0, 0, 2], [1, 0, 1, 0, 1, 0], [2, 0, 2, 0, 0, 0]]


def test_moves_are_joined() -> None:
    parameters = {f"p{i}": 10 for i in range(100)}
    whole, halves = flat(parameters, 1), flat(parameters, 2)
    assert plan_of(whole, halves).tolist() == [[0, 0, 0, 0, 0, 0, 500], [0, 0, 500, 1, 0, 0, 500]]
    fifths = sharded(parameters, 5)
    assert len(plan_of(fifths, fifths)) == 5


def test_large_layouts_are_planned() -> None:
    sizes = np.random.default_rng(0).integers(1, 5_000_000, 10_000)
    parameters = {f"p{i}": int(n) for i, n in enumerate(sizes)}
    source, destination = sharded(parameters, 512), flat(parameters, 384, alignment=2)
    plan = plan_of(source, destination)
    assert plan[:, 6].sum() == sizes.sum()


BAD_SLICES = [
    ([[0, 0, 4, 0, 0, 0]], "element 4 of parameter 0 lies in no partition"),
    ([[0, 1, 5, 0, 0, 0]], "element 0 of parameter 0 lies in no partition"),
    (
        [[0, 0, 5, 0, 0, 0], [0, 3, 4, 0, 0, 6]],
        "element 3 of parameter 0 lies in two places, one at offset 6",
    ),
    (
        [[0, 0, 3, 0, 0, 0], [0, 3, 5, 0, 0, 2]],
        "element 0 of parameter 0 and element 3 of parameter 0 overlap",
    ),
    ([[0, 0, 5, 0, 0, 4]], "at offset 4 of partition 0 on rank 0 to 9 is out of its 8 elements"),
    ([[0, 0, 5, 0, 0, -1]], "is out of its 8 elements"),
    ([[0, 0, 6, 0, 0, 0]], r"slice \[0, 6\) of parameter 0 is not within its 5 elements"),
    ([[1, 0, 5, 0, 0, 0]], "of parameter 1: there are 1 parameters"),
    ([[0, 0, 5, 1, 0, 0]], "is on rank 1, but there are 1 ranks"),
    ([[0, 0, 5, 0, 1, 0]], "is in partition 1, but rank 0 has 1 partitions"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_SLICES)
def test_bad_slices(rows: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layout.from_slices({"a": 5}, [[8]], np.array(rows))


def test_bad_layouts() -> None:
    with pytest.raises(ValueError, match="parameter 0 has -5 elements"):
        Layout.from_slices({"a": -5}, [[8]], np.empty((0, 6)))
    with pytest.raises(ValueError, match="element 0 of parameter 1 lies in no partition"):
        flat({"a": 5, "b": 2}, 1, [["a"]]).layout()
    with pytest.raises(ValueError, match="lies in two places"):
        sharded({"a": 5}, 1, [["a"], ["a"]]).layout()


def test_layouts_of_other_parameters() -> None:
    layout = local({"a": 5, "b": 3})
    with pytest.raises(ValueError, match="parameter 1 is 'b' in the source, but 'c' in the destination"):
        plan_of(layout, local({"a": 5, "c": 3}))
    with pytest.raises(ValueError, match="parameter 0 has 5 elements in the source, but 6"):
        plan_of(layout, local({"a": 6, "b": 3}))
    with pytest.raises(ValueError, match="the source has 2 parameters, but the destination has 1"):
        plan_of(layout, local({"a": 5}))
