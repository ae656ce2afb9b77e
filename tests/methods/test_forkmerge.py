"""ForkMerge: its branches, and the search for the coefficients that merge them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avil_fast.engine.results import Evaluation
from avil_fast.methods.forkmerge import search
from tests.methods.models import CASES, in_float64
from tests.methods.runs import fit, made, plain


def test_forkmerge_with_one_branch_is_plain_training() -> None:
    case = in_float64(CASES["convolutional"]())
    alone = [task for task in case.tasks() if task.name == "t"]
    options = {"rounds": 3, "steps_per_task": 4, "optimizer.name": "adamw"}
    result, found = fit(case, alone, method="forkmerge", **options)
    plain, expected = fit(case, alone, method="single", **options)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)  # θ + δ for θ_i: rounding
    assert result.alphas.tolist() == [[1.0]] * 3
    assert [row["dev_loss"] for row in result.history] == pytest.approx([r["dev_loss"] for r in plain.history])


def test_forkmerge_trains_the_target_and_its_head_in_every_branch() -> None:
    case = CASES["convolutional"]()
    method = plain(case, method="forkmerge", steps_per_task=6)
    method.begin()
    order = method.tasks_of_steps(0, 1)
    assert sorted(order) == [0, 0, 0, 1, 1, 1]
    run = method.take_turn(0, 1, task_of_step=order)
    assert run.delta_norm > 0
    head = dict(method.engine.deltas(0))["heads.t.weight"]
    assert float(head.abs().sum()) > 0
    after = dict(method.engine.model.named_parameters())
    for name, parameter in case.model.named_parameters():  # θ is put back, but for the auxiliary's head
        assert torch.equal(after[name], parameter) != name.startswith("heads.a"), name


def test_a_branch_of_forkmerge_has_an_order_of_its_own_in_every_round() -> None:
    method = made(method="forkmerge", steps_per_task=40)
    orders = [
        [task if of == task else -1 for of in method.tasks_of_steps(task, r)] for task in (0, 2) for r in (1, 2)
    ]
    patterns = [tuple(of == -1 for of in order) for order in orders]
    assert len(set(patterns)) == 4
    assert [sum(pattern) for pattern in patterns] == [20] * 4


def test_what_is_collected_is_trained_on_the_losses_of_its_round() -> None:
    method = made(method="forkmerge")
    asked: list[tuple[int, int]] = []
    own = method.tasks_of_steps
    method.tasks_of_steps = lambda task, round_: asked.append((task, round_)) or own(task, round_)
    method.collect(3)
    assert asked == [(0, 3), (1, 3), (2, 3)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=5), st.integers(1, 8), st.integers(0, 9))
def test_the_search_stays_on_the_simplex_and_beats_every_branch(pull: list[float], grid: int, seed: int) -> None:
    torch.manual_seed(seed)
    n = len(pull)
    form = torch.randn(n, n, dtype=torch.float64)

    def score(alpha: Any) -> Evaluation:
        a = torch.tensor(alpha, dtype=torch.float64)
        return Evaluation(float(a @ form @ form.T @ a + a @ torch.tensor(pull, dtype=torch.float64)), None)

    found = search(score, n, grid)
    assert sum(found) == pytest.approx(1.0)
    assert min(found) >= 0
    alone = [score([float(i == k) for i in range(n)]).loss for k in range(n)]
    assert score(found).loss <= min(alone)


def test_the_search_finds_a_mixture_that_is_better_than_its_parts() -> None:
    found = search(lambda a: Evaluation((a[0] - 0.6) ** 2 + (a[1] - 0.4) ** 2 + a[2], None), 3, 5)
    assert found == pytest.approx([0.6, 0.4, 0.0])


@pytest.mark.parametrize("steps", [6, 7])
def test_a_branch_has_a_half_of_its_steps_on_the_auxiliary_and_the_target_s_own_has_all(steps: int) -> None:
    method = made(method="forkmerge", steps_per_task=steps)
    counts = [[method.tasks_of_steps(task, 1).count(of) for of in range(3)] for task in range(3)]
    half = steps // 2
    assert counts == [[half, steps - half, 0], [0, steps, 0], [0, steps - half, half]]


def test_a_branch_is_as_long_as_its_task_s_turn() -> None:
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4  # 12 batches beside 3 and 3
    method = made(case, method="forkmerge", steps_per_task="proportional")
    assert [len(method.tasks_of_steps(task, 1)) for task in range(3)] == [12, 3, 3]


def test_the_search_tries_every_share_between_none_and_all() -> None:
    tried: list[list[float]] = []

    def score(alpha: Any) -> Evaluation:
        tried.append(list(alpha))
        return Evaluation(abs(alpha[1] - 0.25), None)

    assert search(score, 2, 4) == [0.75, 0.25]
    assert tried == [[1.0, 0.0], [0.0, 1.0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]
