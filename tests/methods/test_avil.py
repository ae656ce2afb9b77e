"""Properties of αVIL that hold for any model and data."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import avil_fast as avil
from avil_fast.config import WeightsConfig, from_dotted
from avil_fast.engine.parameters import assign
from avil_fast.methods.scalar_rules import cosines, update_weights
from tests.methods.models import CASES, Case, in_float64, linear

FEW = settings(max_examples=12, deadline=None)
PLAIN = {
    "finetune.epochs": 0,
    "keep": "last",
    "alpha.init": "one",
    "alpha.lr": 0.05,
    "alpha.target_head": "trained",
    "weights.rule": "off",
    "optimizer.name": "sgd",
    "optimizer.lr": 0.05,
}


def fit(case: Case, tasks: list[avil.Task] | None = None, **options: Any) -> tuple[avil.Result, torch.Tensor]:
    model = copy.deepcopy(case.model)
    result = avil.fit(model, tasks or case.tasks(), "t", **(PLAIN | options))
    return result, nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.slow
@FEW
@given(
    name=st.sampled_from(sorted(CASES)),
    order=st.permutations(["a", "t", "b"]),
    optimizer=st.sampled_from(["sgd", "adamw"]),
    rule=st.sampled_from(["additive", "multiplicative"]),
    seed=st.integers(0, 5),
)
def test_permuting_the_tasks_permutes_the_result(
    name: str, order: list[str], optimizer: str, rule: str, seed: int
) -> None:
    case = in_float64(CASES[name]())
    options = {
        "optimizer.name": optimizer,
        "weights.rule": rule,
        "weights.apply": "lr",
        "seed": seed,
        "rounds": 2,
    }
    result, theta = fit(case, **options)
    by_name = {task.name: task for task in case.tasks()}
    permuted, theta_permuted = fit(case, [by_name[n] for n in order], **options)
    columns = [permuted.tasks.index(n) for n in result.tasks]
    torch.testing.assert_close(torch.tensor(permuted.alphas[:, columns]), torch.tensor(result.alphas))
    torch.testing.assert_close(torch.tensor(permuted.weights[:, columns]), torch.tensor(result.weights))
    torch.testing.assert_close(theta_permuted, theta)


@pytest.mark.slow
@FEW
@given(
    name=st.sampled_from(["linear", "transformer"]),  # BatchNorm's statistics move with any forward pass
    position=st.integers(0, 3),
    dtype=st.sampled_from(["fp32", "bf16", "int8", "fp8"]),
)
def test_a_task_with_an_empty_delta_changes_nothing(name: str, position: int, dtype: str) -> None:
    case = CASES[name]()
    options = {"rounds": 2, "steps_per_task": 3, "deltas.dtype": dtype}
    without, theta = fit(case, **options)
    tasks = case.tasks()
    tasks.insert(position, avil.Task("idle", case.train["a"], lambda m, b: 0.0 * case.losses["a"](m, b)))
    with_, theta_with = fit(case, tasks, **options)
    columns = [with_.tasks.index(n) for n in without.tasks]
    assert (with_.alphas[:, columns] == without.alphas).all()
    assert (with_.alphas[:, with_.tasks.index("idle")] == 1).all()
    assert torch.equal(theta_with, theta)


@FEW
@given(
    name=st.sampled_from(sorted(CASES)),
    optimizer=st.sampled_from(["sgd", "adam", "adamw"]),
    rounds=st.integers(1, 3),
    seed=st.integers(0, 3),
    lr=st.floats(1e-3, 0.3),
)
def test_one_task_with_alpha_fixed_at_one_is_plain_training(
    name: str, optimizer: str, rounds: int, seed: int, lr: float
) -> None:
    case = CASES[name]()
    batches = case.train["t"]
    options = {
        "optimizer.name": optimizer,
        "optimizer.lr": lr,
        "optimizer.weight_decay": 0.0,
        "alpha.steps": 0,
    }
    _, theta = fit(case, [t for t in case.tasks() if t.name == "t"], rounds=rounds, seed=seed, **options)

    from avil_fast.tasks.batches import Batches

    model = copy.deepcopy(case.model).train()
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    shared, heads = assign(model, [t for t in case.tasks() if t.name == "t"])
    # Flat, as a fused optimizer rounds by an element's place.
    groups = [group for group in (shared, *heads) if group]
    flat = [nn.Parameter(nn.utils.parameters_to_vector(group).detach()) for group in groups]
    plain = kinds[optimizer](flat, lr=lr, weight_decay=0.0, fused=True)
    order = Batches(avil.Task("t", batches, case.losses["t"]), 1, seed).cycle(rounds * len(batches))
    for batch in order:
        model.zero_grad()
        case.losses["t"](model, batch).backward()
        for vector, group in zip(flat, groups, strict=True):
            vector.grad = torch.cat([p.new_zeros(p.numel()) if p.grad is None else p.grad.ravel() for p in group])
        plain.step()
        for vector, group in zip(flat, groups, strict=True):
            nn.utils.vector_to_parameters(vector.detach().clone(), group)
    assert torch.equal(theta, nn.utils.parameters_to_vector(model.parameters()).detach())


@pytest.mark.parametrize("codec", ["fp32", "bf16", "int8", "fp8"])
def test_same_seed_same_bits(codec: str) -> None:
    case = CASES["convolutional"]()
    first = fit(case, rounds=3, **{"deltas.dtype": codec, "optimizer.name": "adamw"})
    second = fit(case, rounds=3, **{"deltas.dtype": codec, "optimizer.name": "adamw"})
    assert (first[0].alphas == second[0].alphas).all()
    assert torch.equal(first[1], second[1])


def test_dropout_is_the_seeds_and_no_other_tasks_business() -> None:
    class Dropped(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(functional.dropout(x, 0.5, self.training))

    case = linear()
    case.model = Dropped(6, 1)
    torch.manual_seed(1)
    _, theta = fit(case, rounds=2)
    torch.manual_seed(2)
    _, theta_again = fit(case, rounds=2)
    assert torch.equal(theta, theta_again)
    assert torch.initial_seed() == 2


@pytest.mark.parametrize("codec", ["bf16", "int8"])
def test_low_precision_deltas_stay_close(codec: str) -> None:
    exact, _ = fit(CASES["transformer"](), rounds=1)
    coarse, _ = fit(CASES["transformer"](), rounds=1, **{"deltas.dtype": codec})
    torch.testing.assert_close(torch.tensor(coarse.alphas), torch.tensor(exact.alphas), rtol=0, atol=1e-3)


def test_a_bf16_model_trains_with_an_fp32_master() -> None:
    case = linear()
    cast = {n: [(x.bfloat16(), y.bfloat16()) for x, y in b] for n, b in case.train.items()}
    case = Case(case.model.bfloat16(), case.losses, cast, cast["t"])
    result, theta = fit(case, rounds=20, **{"optimizer.lr": 1e-3})
    assert theta.dtype == torch.bfloat16
    assert result.history[-1]["dev_loss"] < result.history[0]["dev_loss"]


def test_sampling_weights_change_the_number_of_steps() -> None:
    case = linear()
    options = {
        "weights.apply": "sampling",
        "weights.rule": "additive",
        "weights.bounds": (0.0, 3.0),
        "weights.lr": 5.0,
    }
    result, _ = fit(case, rounds=3, steps_per_task=4, **options)
    taken = result.summary["steps"]
    used = result.weights[:-1].clip(0, 3)
    assert taken == {n: int(sum(round(4 * w) for w in used[:, i])) for i, n in enumerate(result.tasks)}
    assert len(set(taken.values())) > 1


@pytest.mark.parametrize("init", ["one", "1/n"])
def test_influence_is_alpha_over_its_start_where_weights_stay_at_one(init: str) -> None:
    start = 1.0 if init == "one" else 1 / 3
    result, _ = fit(linear(), rounds=2, **{"alpha.init": init})
    expected = {name: result.alphas[:, i].mean() / start for i, name in enumerate(result.tasks)}
    assert result.summary["influence"] == pytest.approx(expected)
    assert result.summary["influence"] != pytest.approx(dict.fromkeys(result.tasks, 1.0), abs=1e-6)
    weighted, _ = fit(linear(), rounds=2, **{"weights.rule": "multiplicative", "alpha.init": init})
    assert weighted.summary["influence"] == weighted.summary["weight_last"]


def test_weight_rules() -> None:
    def rule(**options: Any) -> WeightsConfig:
        return WeightsConfig(**({"normalize": False, "bounds": None, "target_min": None} | options))

    weight, alpha = [1.0, 2.0, 0.5], [1.5, 0.5, -0.5]
    assert update_weights(weight, alpha, 1.0, rule(rule="off"), 0) == weight
    assert update_weights(weight, alpha, 1.0, rule(rule="additive", apply="loss"), 0) == [1.5, 1.5, -1.0]
    assert update_weights(weight, alpha, 0.5, rule(rule="multiplicative"), 0) == [3.0, 2.0, 0.0]
    assert update_weights(weight, alpha, 0.5, rule(rule="multiplicative", lr=2.0), 0)[0] == 9.0
    normalized = update_weights(weight, alpha, 0.5, rule(rule="multiplicative", normalize=True), 0)
    assert sum(normalized) == pytest.approx(3)
    bounded = update_weights(weight, alpha, 0.5, rule(rule="multiplicative", bounds=(0.1, 2.5), target_min=0.4), 2)
    assert bounded == [2.5, 2.0, 0.4]


def test_cosines() -> None:
    assert cosines([[4.0, 3.0, 0.0], [3.0, 9.0, 0.0], [0.0, 0.0, 0.0]]) == [
        [1, 0.5, 0],
        [0.5, 1, 0],
        [0, 0, 0],
    ]


def test_fatal_combinations_are_warned_about() -> None:
    with pytest.warns(UserWarning, match="alpha.init: 1/n with weights.rule: additive"):
        fit(linear(), rounds=1, **{"alpha.init": "1/n", "weights.rule": "additive"})
    with pytest.warns(UserWarning, match="weights.apply: loss does nothing under adamw"):
        fit(
            linear(),
            rounds=1,
            **{"optimizer.name": "adamw", "weights.rule": "additive", "weights.apply": "loss"},
        )
    assert from_dotted({"preset": "paper"}).warnings() == []
