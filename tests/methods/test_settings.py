"""Settings of a run, each by what it changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import avil_fast as avil
from tests.methods.models import Case, linear

SGD = {"optimizer.name": "sgd", "optimizer.lr": 0.05, "finetune.epochs": 0, "keep": "last", "rounds": 1}


def run(case: Case, tasks: list[avil.Task] | None = None, **options: Any) -> tuple[avil.Result, torch.Tensor]:
    result = avil.fit(case.model, tasks or case.tasks(), "t", **(SGD | options))
    return result, nn.utils.parameters_to_vector(case.model.parameters()).detach()


def as_datasets(case: Case) -> list[avil.Task]:
    """The linear case's data as datasets of 21 examples, which the run cuts into batches itself."""

    def whole(batches: list[Any]) -> TensorDataset:
        return TensorDataset(*(torch.cat(column) for column in zip(*batches, strict=True)))

    return [
        avil.Task(name, whole(case.train[name]), loss, dev=whole(case.dev) if name == "t" else None)
        for name, loss in case.losses.items()
    ]


def test_alpha_momentum_is_heavy_ball() -> None:
    """α_k+1 = α_k − lr · v_k with v_k = μ v_k-1 + g_k; where α has not moved yet the first g is the same."""
    options = {"alpha.lr": 0.01, "alpha.bounds": None, "alpha.steps": 2}
    plain, _ = run(linear(), **options)
    heavy, _ = run(linear(), **options, **{"alpha.momentum": 0.5})
    start, first, second = torch.tensor(plain.history[0]["alpha_path"], dtype=torch.float64)
    assert heavy.history[0]["alpha_path"][1] == first.tolist()
    second_heavy = torch.tensor(heavy.history[0]["alpha_path"][2], dtype=torch.float64)
    torch.testing.assert_close(second_heavy, second + 0.5 * (first - start))


@pytest.mark.parametrize("size", [1, 4, 21, 1000])
def test_evaluation_does_not_depend_on_its_batch_size(size: int) -> None:
    case, other = linear(), linear()
    result, theta = run(case, as_datasets(case), eval_batch_size=size)
    usual, usual_theta = run(other, as_datasets(other))
    assert result.history[0]["dev_loss"] == pytest.approx(usual.history[0]["dev_loss"], rel=1e-6)
    torch.testing.assert_close(theta, usual_theta)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 6),  # ⌈21 / 4⌉
        ({"sample_ratio": 0.5}, 3),
        ({"sample_ratio": 0.01}, 1),
        ({"steps_per_task": "proportional"}, 6),
        ({"steps_per_task": "proportional", "sample_ratio": 0.5}, 3),
        ({"steps_per_task": 2, "sample_ratio": 0.5}, 2),
    ],
)
def test_steps_of_a_round(options: dict[str, Any], steps: int) -> None:
    case = linear()
    result, _ = run(case, as_datasets(case), batch_size=4, **options)
    assert result.summary["steps"] == {"a": steps, "t": steps, "b": steps}


def test_proportional_steps_follow_the_sizes_and_equal_ones_their_mean() -> None:
    def tasks(case: Case) -> list[avil.Task]:
        a, t, b = as_datasets(case)
        few = TensorDataset(*(column[:5] for column in case.train["t"][0]))
        return [a, avil.Task("t", few, t.loss, dev=t.dev), b]

    for rule, expected in (("proportional", {"a": 6, "t": 2, "b": 6}), ("equal", {"a": 5, "t": 5, "b": 5})):
        case = linear()
        result, _ = run(case, tasks(case), batch_size=4, steps_per_task=rule)
        assert result.summary["steps"] == expected, rule


def test_clip_norm_bounds_a_step() -> None:
    """One step of plain SGD on a clipped gradient is lr · clip_norm long, or shorter."""
    options = {"steps_per_task": 1, "optimizer.lr": 1.0}
    free, _ = run(linear(), **options)
    clipped, _ = run(linear(), **options, **{"optimizer.clip_norm": 1e-3})
    assert min(free.history[0]["delta_norm"].values()) > 1e-2
    assert list(clipped.history[0]["delta_norm"].values()) == pytest.approx([1e-3] * 3, rel=1e-3)


def test_a_fine_tune_that_does_harm_is_not_kept() -> None:
    """Training on labels turned upside down can only raise the dev loss."""
    case, other = linear(), linear()
    case.train["t"] = other.train["t"] = [(x, -y) for x, y in case.train["t"]]
    options = {"alpha.steps": 0, "alpha.init": "1/n", "optimizer.lr": 1e-3}
    before, theta = run(other, **options)
    after, theta_after = run(case, **options, **{"finetune.epochs": 3})
    assert after.summary["finetune_epoch"] == 0
    assert after.summary["dev_loss"] == before.summary["dev_loss"]
    assert torch.equal(theta_after, theta)


def test_a_fine_tune_that_helps_is_kept() -> None:
    case = linear()
    result, _ = run(case, **{"finetune.epochs": 3})
    assert result.summary["finetune_epoch"] > 0
    assert result.summary["dev_loss"] < result.history[0]["dev_loss"]
