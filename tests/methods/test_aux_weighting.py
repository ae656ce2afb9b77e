"""The weighting network: what it is, and what it learns from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from avil_fast.config import from_dotted
from avil_fast.methods import find
from avil_fast.methods.turn import Hooks
from tests.methods.models import CASES
from tests.methods.runs import made, plain


def test_the_network_begins_at_equal_weights_and_learns_from_the_dev_gradient() -> None:
    case = CASES["linear"]()
    method: Any = plain(case, method="aux_weighting", options={"lr": 0.5})
    method.so_far.loss = [1.0, 2.0, 3.0]
    assert method._weights(torch.ones(3, dtype=torch.float64)).tolist() == pytest.approx([1.0] * 3)
    method.so_far.gradient = [[[-1.0, 0.0, 1.0]]]  # the first lowers the dev loss
    first, second, third = method.coefficients(1)
    assert first > second > third
    assert first + second + third == pytest.approx(3.0)
    other: Any = plain(case, method="aux_weighting", options={"lr": 0.5})
    other.load(method.state())
    other.so_far = method.so_far
    assert other.coefficients(2) == method.coefficients(2)


def test_the_weighting_network_is_as_it_was_published_but_for_its_zeros() -> None:
    """Linear, tanh, linear; all weights are 1 before the first step. A task without a loss counts as one of 0."""
    method: Any = made(method="aux_weighting", options={"hidden": 5})
    first, between, last = method.network
    assert isinstance(between, nn.Tanh)
    assert (first.weight.shape, last.weight.shape) == ((5, 3), (3, 5))
    assert not last.weight.any()
    assert not last.bias.any()
    assert first.weight.any()
    method.begin()
    method.collect(1)
    method.so_far.loss = [1.0, None, 3.0]
    with torch.no_grad():
        last.weight.normal_()
        expected = 3 * torch.softmax(method.network(torch.tensor([1.0, 0.0, 3.0]).double() / 3), 0)
    method.dev_gradient = lambda alpha: []  # rejected: nothing is learned
    assert method.coefficients(1) == pytest.approx(expected.tolist())


def test_a_network_is_drawn_from_the_run_s_seed_and_leaves_others_numbers_alone() -> None:
    networks = [made(method="aux_weighting", seed=seed).network[0].weight for seed in (0, 0, 1)]  # type: ignore[attr-defined]
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])
    case = made()  # another method would draw nothing
    state = torch.get_rng_state()
    find("aux_weighting")(case.engine, case.data, from_dotted({"target": "t", "method": "aux_weighting"}), Hooks())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_weighting_network_learns_at_its_own_rate() -> None:
    weights = []
    for lr in (0.01, 0.1):
        method = made(method="aux_weighting", **{"options.lr": lr})
        weights.append(method.round(1).weight)
    moved = [max(abs(weight - 1) for weight in own) for own in weights]
    assert moved[1] > 5 * moved[0] > 0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_network_sees_losses_and_gradients_by_their_ratios(scale: float) -> None:
    """Both are divided by the largest."""
    method: Any = made(method="aux_weighting")
    fed: list[torch.Tensor] = []
    of_losses = method._weights

    def weights(losses: torch.Tensor) -> torch.Tensor:
        found = of_losses(losses)
        if not fed:
            found.register_hook(lambda gradient: fed.append(gradient))
        torch.testing.assert_close(losses, torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64))
        return found

    method._weights = weights
    method.so_far.loss = [scale * loss for loss in (0.5, 1.0, 2.0)]
    method.so_far.gradient = [[[scale * g for g in (-1.0, 0.5, 4.0)]]]
    method.coefficients(1)
    torch.testing.assert_close(fed[0], torch.tensor([-0.25, 0.125, 1.0], dtype=torch.float64))


def test_losses_and_gradients_of_zero_move_nothing() -> None:
    method: Any = made(method="aux_weighting")
    method.so_far.loss = [0.0] * 3
    method.so_far.gradient = [[[0.0] * 3]]
    assert method.coefficients(1) == [1.0] * 3
