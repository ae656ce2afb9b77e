"""What each task brought adds up to how far the dev loss fell."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import avil_fast as avil
from avil_fast.methods.scalar_rules import benefits


def cubic(alpha: Tensor) -> Tensor:
    """A loss with terms of all degrees up to 3, mixed ones among them."""
    a, b, c = alpha
    return 3.0 - a + 0.5 * b * c - 2.0 * a * b * c + a**3 - 0.2 * b**2 * c + 0.3 * c


def gradient(alpha: list[float]) -> list[float]:
    at = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(cubic(at), at)
    return found.tolist()


@pytest.mark.slow
def test_they_are_the_integrals_of_the_terms_of_a_cubic_loss() -> None:
    alpha = [1.2, 0.4, -0.7]
    found = benefits(alpha, gradient([a / 3 for a in alpha]), gradient(alpha))
    steps = 20_000
    for i, a in enumerate(alpha):
        along = (gradient([(k + 0.5) / steps * other for other in alpha])[i] for k in range(steps))
        assert found[i] == pytest.approx(-a * sum(along) / steps, abs=1e-7)
    fall = cubic(torch.zeros(3, dtype=torch.float64)) - cubic(torch.tensor(alpha, dtype=torch.float64))
    assert sum(found) == pytest.approx(float(fall), abs=1e-12)


def test_a_task_that_was_not_merged_brought_nothing() -> None:
    assert benefits([0.0, 1.0], [-5.0, -1.0], [3.0, -1.0]) == [0.0, 1.0]


def run(**settings: Any) -> avil.Result:
    """A linear model and squares, so that the dev loss is quadratic in α; α does not move from 1."""
    torch.manual_seed(0)
    model, true = nn.Linear(6, 1), torch.randn(6, 1)

    def task(name: str, sign: float, count: int) -> avil.Task:
        def batches() -> list[tuple[Tensor, Tensor]]:
            x = torch.randn(count, 6)
            return [(x, sign * x @ true + 0.1 * torch.randn(count, 1))]

        def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            return (model(batch[0]) - batch[1]).square().mean()

        return avil.Task(name, batches(), loss, dev=batches())

    tasks = [task("target", 1, 16), task("useful", 1, 64), task("opposed", -1, 64)]
    fixed: dict[str, Any] = {
        "alpha.lr": 1e-12,
        "finetune.epochs": 0,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.02,
    }
    return avil.fit(model, tasks, "target", **(fixed | {"rounds": 4} | settings))


def test_they_add_up_to_the_fall_of_the_dev_loss() -> None:
    history = run().history
    for before, row in itertools.pairwise(history):
        assert sum(row["benefit"].values()) == pytest.approx(before["dev_loss"] - row["dev_loss"], rel=1e-4)


def test_a_useful_task_brings_something_and_an_opposed_one_does_harm() -> None:
    summary = run().summary
    assert summary["benefit"]["useful"] > 0 > summary["benefit"]["opposed"]
    assert run(**{"alpha.steps": 2}).summary["benefit"] == pytest.approx(summary["benefit"], rel=1e-4)


@pytest.mark.parametrize("settings", [{"alpha.steps": 0}, {"method": "single"}])
def test_without_gradients_nothing_is_told(settings: dict[str, Any]) -> None:
    result = run(**settings)
    assert set(result.history[0]["benefit"].values()) == {None}
    assert set(result.summary["benefit"].values()) == {None}
