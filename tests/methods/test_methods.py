"""What the methods beside αVIL are, by their properties."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import avil_fast as avil
from avil_fast.config import AlphaConfig, from_dotted, load
from avil_fast.engine.factory import make_engine
from avil_fast.engine.parameters import flatten
from avil_fast.engine.ranks import ALONE
from avil_fast.engine.results import Evaluation
from avil_fast.errors import AvilError, Diverged
from avil_fast.methods import METHODS, find
from avil_fast.methods.base import Method
from avil_fast.methods.data import TaskData
from avil_fast.methods.forkmerge import search
from avil_fast.methods.scalar_rules import reweighted, settled, share_out, shares
from avil_fast.methods.tartan import steps
from avil_fast.methods.turn import Hooks, RoundProgress
from avil_fast.observer import Observer
from avil_fast.randomness import derive_seed, seeded
from avil_fast.run import training
from avil_fast.run.launch import baseline_methods, baseline_of
from avil_fast.run.storage import RunStorage
from avil_fast.tasks.batches import Batches
from avil_fast.tasks.train_and_dev import joined
from tests.methods.models import CASES, LAYERS, NAMES, Case, in_float64

PLAIN = {"finetune.epochs": 0, "keep": "last", "optimizer.name": "sgd", "optimizer.lr": 0.05}
OTHERS = sorted(set(METHODS) - {"avil"})


def fit(case: Case, tasks: list[avil.Task] | None = None, **options: Any) -> tuple[avil.Result, Tensor]:
    model = copy.deepcopy(case.model)
    result = avil.fit(model, tasks or case.tasks(), "t", **(PLAIN | options))
    return result, nn.utils.parameters_to_vector(model.parameters()).detach()


def made(case: Case, **options: Any) -> Method:
    """A method on an engine, before its first round."""
    config = from_dotted({"target": "t", "output_dir": None} | PLAIN | options)
    kind = find(config.method)
    tasks = kind.trained(case.tasks(), 1)
    engine = make_engine(
        copy.deepcopy(case.model), tasks, 1, config, ALONE, kind.granularity(config), kind.keeps_deltas
    )
    return kind(engine, TaskData(tasks, config), config, Hooks())


def theta(method: Method) -> Tensor:
    return nn.utils.parameters_to_vector(method.engine.model.parameters()).detach().clone()


def gradient(case: Case, name: str, batch: Any) -> Tensor:
    model = copy.deepcopy(case.model)
    case.losses[name](model, batch).backward()
    return torch.cat([p.new_zeros(p.numel()) if p.grad is None else p.grad.ravel() for p in model.parameters()])


def first_batches(case: Case, seed: int = 0) -> dict[str, Any]:
    """What the tasks' streams begin with."""
    data = TaskData(case.tasks(), from_dotted({"target": "t", "output_dir": None, "seed": seed}))
    return {name: next(data.cycle(i, 1)) for i, name in enumerate(NAMES)}


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("name", CASES)
def test_every_method_takes_its_budget_and_gives_the_same_bits_again(name: str, method: str) -> None:
    case = CASES[name]()
    options = {"method": method, "rounds": 3, "steps_per_task": 4, "optimizer.name": "adamw"}
    result, first = fit(case, **options)
    again, second = fit(case, **options)
    assert torch.equal(first, second)
    assert again.alphas.tolist() == result.alphas.tolist()
    taken = result.summary["steps"]
    assert sum(taken.values()) == (12 if method == "single_own" else 36)
    assert (taken["a"] == taken["b"] == 0) == method.startswith("single")
    assert not torch.equal(first, nn.utils.parameters_to_vector(case.model.parameters()))


def test_multitask_is_a_plain_loop_over_shuffled_batches() -> None:
    """With Adam, whose moments are one set for shared parameters and each head's own, as in any training loop."""
    case = in_float64(CASES["convolutional"]())
    options = {"method": "multitask", "optimizer.name": "adamw", "optimizer.lr": 0.01, "rounds": 2}
    _, found = fit(case, **options)

    method = made(case, **options)
    model = copy.deepcopy(case.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for round_ in (1, 2):
        order = method.shuffled([3, 3, 3], round_)
        assert sorted(order) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        for task, batch in zip(order, method.data.mixed(order), strict=True):
            optimizer.zero_grad()  # to None: the heads of other tasks are not stepped
            case.losses[NAMES[task]](model, batch).backward()
            optimizer.step()
    torch.testing.assert_close(found, nn.utils.parameters_to_vector(model.parameters()).detach())


def test_proportional_sampling_shares_the_same_steps_by_size() -> None:
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4  # 12 batches beside 3 and 3
    options = {"method": "multitask", "steps_per_task": 6, "rounds": 2}
    result, _ = fit(case, **options, options={"sampling": "proportional"})
    assert result.summary["steps"] == {"a": 24, "t": 6, "b": 6}
    assert result.weights[1].tolist() == pytest.approx([2.0, 0.5, 0.5])


@pytest.mark.parametrize("method", ["single", "single_own", "single_all"])
def test_the_target_alone_has_all_the_weight(method: str) -> None:
    case = CASES["linear"]()
    (row,) = avil.fit(case.model, case.tasks(), "t", rounds=1, method=method).history
    assert row["alpha"] == row["weight"] == {"a": 0.0, "t": 1.0, "b": 0.0}


def test_multitask_and_then_the_target_alone() -> None:
    case = CASES["linear"]()
    result, _ = fit(case, method="multitask_ft", steps_per_task=4, rounds=6, options={"target_rounds": 0.5})
    assert result.summary["steps"] == {"a": 12, "t": 12 + 36, "b": 12}
    joint, _ = fit(case, method="multitask", steps_per_task=4, rounds=3)
    losses = [row["dev_loss"] for row in result.history]
    assert losses[:3] == [row["dev_loss"] for row in joint.history]


@pytest.mark.parametrize("method", ["single", "multitask"])
def test_a_control_on_all_data_is_the_method_on_both_sets(method: str) -> None:
    case = CASES["linear"]()
    both = [
        avil.Task("t", [*case.train["t"], *case.dev], case.losses["t"], dev=case.dev) if task.name == "t" else task
        for task in case.tasks()
    ]
    options = {"steps_per_task": 4, "rounds": 2}
    result, found = fit(case, method=f"{method}_all", **options)
    _, expected = fit(case, both, method=method, **options)
    assert torch.equal(found, expected)
    assert [row["dev_held_out"] for row in result.history] == [False, False]
    assert result.summary["dev_held_out"] is False


def test_single_all_keeps_the_last_epoch_of_the_finetune() -> None:
    case = CASES["linear"]()
    result, _ = fit(
        case, method="single_all", rounds=2, keep="best", **{"finetune.epochs": 3, "optimizer.lr": 0.4}
    )
    assert result.summary["best_round"] == 2
    assert result.summary["finetune_epoch"] == 3


def test_a_finetune_on_train_and_dev_is_one_on_both_and_its_last_epoch_counts() -> None:
    case = CASES["linear"]()
    tasks = [*case.tasks()]
    options = {"rounds": 2, "keep": "best", "finetune.epochs": 3, "optimizer.lr": 0.02, "seed": 4}
    result, found = fit(case, tasks, **options, **{"finetune.data": "train+dev"})
    before, theta = fit(case, tasks, **(options | {"finetune.epochs": 0}))
    assert result.summary["finetune_epoch"] == 3
    assert result.summary["steps"]["t"] == before.summary["steps"]["t"] + 3 * 6
    assert [row["dev_loss"] for row in result.history] == [row["dev_loss"] for row in before.history]
    model = copy.deepcopy(case.model)
    nn.utils.vector_to_parameters(theta.clone(), model.parameters())
    both = avil.Task("t", [*case.train["t"], *case.dev], case.losses["t"])
    config = from_dotted({"target": "t", "output_dir": None, "seed": 4})
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    for step, batch in enumerate(TaskData([both], config).cycle(0, 18)):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 18)
        optimizer.zero_grad()
        case.losses["t"](model, batch).backward()
        optimizer.step()
    torch.testing.assert_close(found, nn.utils.parameters_to_vector(model.parameters()).detach())


def test_joined_sets_keep_what_they_have_besides_items() -> None:
    class Weighed(TensorDataset):
        weights = (1, 2)

        def draw(self, index: int, seed: int) -> Any:
            return (*self[index], seed)

    first, second = Weighed(torch.arange(2.0)), Weighed(torch.arange(5.0, 7.0))
    found: Any = joined("t", first, second)
    assert [float(item[0]) for item in (found[i] for i in range(4))] == [0.0, 1.0, 5.0, 6.0]
    assert found.weights == [1, 2, 1, 2]
    assert found.draw(3, 9) == (torch.tensor(6.0), 9)
    plain: Any = TensorDataset(torch.zeros(1))
    for parts, weights in (((first, plain), [1, 2, 1]), ((plain, first), [1, 1, 2])):
        mixed: Any = joined("t", *parts)
        assert mixed.weights == weights
        assert not hasattr(mixed, "draw")
    assert not hasattr(joined("t", plain, plain), "weights")
    with pytest.raises(AvilError, match=r"target 't'.*pass two Datasets"):
        joined("t", first, [torch.zeros(1)])


def test_joined_batches_are_walked_anew_and_drawn_by_the_run_s_seed_alone() -> None:
    def loader(first: float) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.arange(first, first + 8)), batch_size=2, shuffle=True)

    def drawn() -> list[list[float]]:
        task = avil.Task("t", joined("t", loader(0.0), loader(100.0)), lambda model, batch: batch)
        batches = Batches(task, 2, seed=5)
        assert batches.batches_per_pass == 8
        return [batch[0].tolist() for batch in batches.cycle(16)]

    torch.manual_seed(1)
    first = drawn()
    torch.manual_seed(2)
    assert drawn() == first
    for begin in (0, 8):
        values = [value for batch in first[begin : begin + 8] for value in batch]
        assert sorted(values[:8]) == [float(i) for i in range(8)]
        assert sorted(values[8:]) == [float(i) for i in range(100, 108)]
    assert first[:8] != first[8:]
    assert joined("t", [1], [2, 3]) == [1, 2, 3]


def test_batches_without_an_end_cannot_be_joined() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(int, 1)

    with pytest.raises(AvilError, match=r"target 't'.*its train iterable has no len\(\).*alpha.rounds: null"):
        joined("t", Endless(), [torch.zeros(1)])


@pytest.mark.parametrize("name", ["linear", "transformer"])
def test_diw_with_equal_scores_is_a_joint_step(name: str) -> None:
    case = in_float64(CASES[name]())
    method = made(case, method="diw", steps_per_task=1, options={"lr": 1e-12}, **{"alpha.target_head": "trained"})
    record = method.round(1)
    assert record.alpha == pytest.approx([1.0] * 3, abs=1e-9)
    batches = first_batches(case)
    joint = sum(gradient(case, task, batches[task]) for task in NAMES)
    before = nn.utils.parameters_to_vector(case.model.parameters()).detach()
    torch.testing.assert_close(theta(method), before - 0.05 * joint, atol=1e-9, rtol=0)


def test_diw_follows_the_scores() -> None:
    case = CASES["linear"]()  # b is mostly noise
    result, _ = fit(case, method="diw", rounds=4, options={"lr": 5.0})
    a, t, b = result.weights[-1]
    assert min(a, t) > b
    assert sum(result.weights[-1]) == pytest.approx(3.0)


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
    method = made(case, method="forkmerge", steps_per_task=6)
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


def test_the_network_begins_at_equal_weights_and_learns_from_the_dev_gradient() -> None:
    case = CASES["linear"]()
    method: Any = made(case, method="aux_weighting", options={"lr": 0.5})
    method.so_far.loss = [1.0, 2.0, 3.0]
    assert method._weights(torch.ones(3, dtype=torch.float64)).tolist() == pytest.approx([1.0] * 3)
    method.so_far.gradient = [[[-1.0, 0.0, 1.0]]]  # the first lowers the dev loss
    first, second, third = method.coefficients(1)
    assert first > second > third
    assert first + second + third == pytest.approx(3.0)
    other: Any = made(case, method="aux_weighting", options={"lr": 0.5})
    other.load(method.state())
    other.so_far = method.so_far
    assert other.coefficients(2) == method.coefficients(2)


@pytest.mark.parametrize("method", ["upgrad", "pcgrad", "cagrad", "mgda"])
def test_with_one_step_of_sgd_it_is_torchjd_s_aggregation_of_gradients(method: str) -> None:
    from torchjd import aggregation

    case = in_float64(CASES["linear"]())
    kinds: dict[str, Callable[[], Any]] = {
        "upgrad": aggregation.UPGrad,
        "pcgrad": aggregation.PCGrad,
        "cagrad": lambda: aggregation.CAGrad(c=0.4),
        "mgda": aggregation.MGDA,
    }
    own = made(case, method=method, steps_per_task=1)
    own.round(1)
    batches = first_batches(case)
    jacobian = torch.stack([gradient(case, name, batches[name]) for name in NAMES])
    with seeded(derive_seed(0, "aggregation", 1)):  # pcgrad draws an order
        step = kinds[method]()(jacobian) * (1 if method == "pcgrad" else 3)  # the others find a mean
    before = nn.utils.parameters_to_vector(case.model.parameters()).detach()
    tolerance = 1e-3 if method == "cagrad" else 1e-6  # it solves to a tolerance
    moved = theta(own) - before
    assert float((moved + 0.05 * step).norm()) <= tolerance * float(moved.norm())


def test_deltas_that_do_not_conflict_are_added_up() -> None:
    """Each task has inputs of its own, so that gradients are orthogonal."""
    torch.manual_seed(0)
    model = nn.Linear(6, 1, bias=False)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return functional.mse_loss(model(batch[0]), batch[1])

    def task(name: str, place: int) -> avil.Task:
        x = torch.zeros(8, 6)
        x[:, 2 * place : 2 * place + 2] = torch.randn(8, 2)
        batches = [(x, x.sum(1, keepdim=True))]
        return avil.Task(name, batches, loss, dev=batches)

    tasks = [task(name, place) for place, name in enumerate(NAMES)]
    for method in ("upgrad", "pcgrad"):
        result = avil.fit(copy.deepcopy(model), tasks, "t", rounds=1, method=method, **PLAIN)
        assert result.alphas[0].tolist() == pytest.approx([1.0] * 3, abs=1e-4)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("forkmerge", {"grid": 0}, r"options\.grid is 0, but "),
        ("forkmerge", {"gird": 3}, r"options\.gird is no setting of method forkmerge, which has options\.grid"),
        ("avil", {"grid": 3}, r"options\.grid is no setting of method avil, which has none"),
        ("multitask", {"sampling": "some"}, r"options\.sampling is 'some', but "),
    ],
)
def test_a_wrong_option_is_one_sentence(method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(AvilError, match=said):
        from_dotted({"method": method, "options": options})
    (name,) = options
    with pytest.raises(AvilError, match=said):
        from_dotted({"method": method, f"options.{name}": options[name]})


def test_a_method_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(AvilError, match=r"method is 'forkmerg', but the methods are .*; did you mean forkmerge\?"):
        from_dotted({"method": "forkmerg"})


def test_once_alpha_is_settled_the_target_trains_on_dev_too_and_the_last_round_counts() -> None:
    case = CASES["convolutional"]()
    options = {"rounds": 5, "steps_per_task": 4, "keep": "best", "alpha.lr": 60.0}
    result, _ = fit(case, **options, **{"alpha.rounds": 3})
    before, _ = fit(case, **(options | {"rounds": 3}))
    assert result.alphas[:3].tolist() == before.alphas.tolist()
    expected = before.alphas[1:].mean(0)  # of the later half of three rounds
    expected[1] = max(expected[1], 0.5)  # the target
    assert result.alphas[3:].tolist() == [pytest.approx(expected)] * 2
    assert [len(row["alpha_path"]) for row in result.history] == [11, 11, 11, 1, 1]
    assert result.summary["best_round"] == 5
    shared = dict(zip("atb", share_out(12, shares(expected.tolist(), 1, 1.0)), strict=True))
    assert len(set(shared.values())) > 1
    assert result.summary["steps"] == {name: 12 + 2 * count for name, count in shared.items()}


def test_once_alpha_is_settled_a_plain_loop_over_all_tasks_begins_where_the_run_began() -> None:
    """By α and w as they happen to be, in fp64."""
    case = in_float64(CASES["convolutional"]())
    options = {"rounds": 3, "steps_per_task": 5, "weights.rule": "additive", "weights.lr": 0.3} | {
        "alpha.rounds": 2,
        "alpha.lr": 6.0,
        "optimizer.momentum": 0.9,
    }
    method = made(case, **options)
    model = copy.deepcopy(method.engine.model).train()
    both = replace(method.engine.tasks[1], train=[*case.train["t"], *case.dev])
    method.data._tail = Batches(both, 1, 0)
    for round_ in (1, 2):
        method.round(round_)
        method.so_far = RoundProgress()
    alphas = [alpha for (alpha,) in method.alphas]
    alpha = settled(alphas, 1, method.config.alpha)
    steps = share_out(15, [s * w for s, w in zip(shares(alpha, 1, 1.0), method.weight, strict=True)])
    assert len(set(steps)) == 3, (alpha, steps)
    assert min(steps) > 0
    batches = made(case, **options).data
    batches.load(method.data.state() | {"tail": None})
    batches._tail = Batches(both, 1, 0)
    record = method.round(3)
    assert record.alpha == alpha
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    order = method.shuffled(steps, 3)
    losses = []
    for task, batch in zip(order, batches.mixed(order, with_dev=1), strict=True):
        optimizer.zero_grad()
        loss = case.losses[NAMES[task]](model, batch)
        losses.append((task, loss.item()))
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(theta(method), nn.utils.parameters_to_vector(model.parameters()).detach())
    for task in range(3):
        own = [loss for of, loss in losses if of == task]
        assert record.train_loss[task] == pytest.approx(sum(own) / len(own))


def test_a_task_whose_alpha_is_not_above_0_has_no_step_once_it_is_settled() -> None:
    case = CASES["linear"]()
    options = {"rounds": 3, "steps_per_task": 4, "alpha.rounds": 1, "alpha.steps": 1, "alpha.bounds": None}
    for lr in (0.3, 1.0, 3.0, 10.0, 30.0):
        result, _ = fit(case, **options, **{"alpha.lr": lr})
        if min(result.alphas[1]) < 0:
            break
    task = NAMES[int(result.alphas[1].argmin())]
    assert result.summary["steps"][task] == 4
    assert sum(result.summary["steps"].values()) == 36
    assert result.history[-1]["train_loss"][task] is None


def test_deltas_are_merged_with_the_settled_alpha_or_there_are_none() -> None:
    case = CASES["linear"]()
    options = {"rounds": 4, "steps_per_task": 4, "alpha.rounds": 2, "optimizer.lr": 0.02}
    result, _ = fit(case, **options, **{"alpha.settled": "merge"})
    assert result.summary["steps"] == {"a": 16, "t": 16, "b": 16}
    assert all(row["cosine"] and min(row["delta_norm"].values()) > 0 for row in result.history)
    together, _ = fit(case, **options)
    assert together.alphas.tolist() == result.alphas.tolist()
    assert [bool(row["cosine"]) for row in together.history] == [True, True, False, False]


@pytest.mark.parametrize("after", ["restart", "merge"])
def test_once_alpha_is_settled_each_layer_has_its_own_or_a_task_its_mean(after: str) -> None:
    case = CASES["convolutional"]()
    options = {"rounds": 4, "steps_per_task": 4, "alpha.rounds": 2, "alpha.lr": 2.0, "alpha.granularity": "layer"}
    result, _ = fit(case, **options, **{"alpha.settled": after})
    tables = [row.get("alpha_layers") for row in result.history]
    assert [bool(table) for table in tables] == [True, True, after == "merge", after == "merge"]
    first, second, *later = [np.array([list(own.values()) for own in table.values()]) for table in tables if table]
    assert list(tables[0]) == LAYERS["convolutional"]
    assert first.shape == (3, 3)
    assert np.ptp(second, axis=0).min() > 0
    expected = second.copy()
    expected[:, 1] = np.maximum(expected[:, 1], 0.5)
    assert all(table.tolist() == expected.tolist() for table in later)
    elements = np.array([40, 8, 148]) / 196
    assert result.alphas[0].tolist() == pytest.approx((elements @ first).tolist())
    assert result.alphas[2].tolist() == pytest.approx((elements @ expected).tolist())
    taken = result.summary["steps"]
    if after == "joint":
        shared = share_out(12, result.alphas[2].tolist())
        assert taken == dict(zip("atb", [8 + 2 * count for count in shared], strict=True))
    else:
        assert set(taken.values()) == {16}
    assert "alpha_layers" not in fit(case, rounds=1, steps_per_task=1)[0].history[0]


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


def tasks_with_test(case: Case, as_datasets: bool = True) -> list[avil.Task]:
    """Those of a case, with a test set of the target; as Datasets, or as the batches that they are."""

    def dataset(batches: Any) -> Any:
        return TensorDataset(*map(torch.cat, zip(*batches, strict=True))) if as_datasets else batches

    return [
        replace(task, train=dataset(task.train))
        if task.name != "t"
        else replace(task, train=dataset(task.train), dev=dataset(task.dev), test=dataset(case.dev))
        for task in case.tasks()
    ]


@pytest.mark.parametrize(("rounds", "held_out"), [(1, 1), (5, 5), (6, 1), (12, 1), (13, 2)])
def test_by_default_dev_joins_train_after_a_twelfth_of_six_rounds_or_more(rounds: int, held_out: int) -> None:
    case = CASES["linear"]()
    result, found = fit(case, tasks_with_test(case), rounds=rounds, steps_per_task=1)
    assert [row["dev_held_out"] for row in result.history] == [True] * held_out + [False] * (rounds - held_out)
    assert result.summary["dev_held_out"] == (held_out == rounds)
    _, expected = fit(case, tasks_with_test(case), rounds=rounds, steps_per_task=1, **{"alpha.rounds": held_out})
    assert torch.equal(found, expected)


def test_where_deltas_are_merged_to_the_end_it_is_a_third() -> None:
    case = CASES["linear"]()
    options = {"rounds": 7, "steps_per_task": 1, "alpha.settled": "merge"}
    result, _ = fit(case, tasks_with_test(case), **options)
    assert [row["dev_held_out"] for row in result.history] == [True] * 3 + [False] * 4


def test_by_default_dev_is_held_out_where_there_is_nothing_else_to_judge_by() -> None:
    case = CASES["linear"]()
    for tasks in (case.tasks(), tasks_with_test(case, as_datasets=False)):
        result, _ = fit(case, tasks, rounds=6, steps_per_task=1)
        assert [row["dev_held_out"] for row in result.history] == [True] * 6
        assert result.summary["dev_held_out"] is True
    result, _ = fit(case, tasks_with_test(case), rounds=6, steps_per_task=1, preset="paper")
    assert result.summary["dev_held_out"] is True


def test_the_baseline_has_the_data_of_the_run() -> None:
    case = CASES["linear"]()

    def methods(tasks: list[avil.Task], *overrides: str) -> list[str]:
        return baseline_methods(load(None, ["rounds=6", *overrides]), tasks, 1)

    assert methods(tasks_with_test(case)) == ["single_all"]
    assert methods(tasks_with_test(case), "alpha.rounds=null") == ["single"]
    assert methods(tasks_with_test(case), "alpha.rounds=null", "finetune.data=train+dev") == ["single_all"]
    assert methods(tasks_with_test(case), "method=single") == []
    assert methods(tasks_with_test(case), "baselines=[diw, avil]") == ["diw"]
    assert methods(case.tasks()) == ["single"]


def test_rounds_after_alpha_is_settled_draw_from_train_and_dev() -> None:
    """One task with α held at 1 is plain training: 12 batches of train, then 8 of both."""
    case = in_float64(CASES["linear"]())
    alone = [task for task in case.tasks() if task.name == "t"]
    options = {"rounds": 5, "steps_per_task": 4, "alpha.steps": 0, "alpha.init": "one", "seed": 4}
    _, found = fit(case, alone, **options, **{"alpha.rounds": 3})
    model = copy.deepcopy(case.model)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    config = from_dotted({"target": "t", "output_dir": None, "seed": 4})
    both = avil.Task("t", [*case.train["t"], *case.dev], case.losses["t"])
    for batch in (*TaskData(alone, config).cycle(0, 12), *TaskData([both], config).cycle(0, 8)):
        optimizer.zero_grad()
        case.losses["t"](model, batch).backward()
        optimizer.step()
    torch.testing.assert_close(found, nn.utils.parameters_to_vector(model.parameters()).detach())


def test_a_baseline_has_no_options_of_the_run_s_method() -> None:
    config = load(None, ["method=multitask", "options.sampling=proportional"])
    assert baseline_of(config, "single").options == {}


def test_a_run_that_was_to_be_too_short_to_begin_anew_goes_on_from_where_it_is(tmp_path: Path) -> None:
    """Its start was not kept, and its report does not say that it was gone back to."""
    case = CASES["linear"]()
    tasks = tasks_with_test(case)
    options = {"steps_per_task": 1, "finetune.epochs": 0, "checkpoints.minutes": 0, "output_dir": tmp_path / "run"}
    short, _ = fit(case, tasks, rounds=4, **options)
    assert not any("restarted" in row for row in short.history)
    longer, _ = fit(case, tasks, rounds=8, resume="auto", **options)
    assert [row.get("restarted") for row in longer.history] == [None] * 4 + [False] * 4
    whole, _ = fit(case, tasks, rounds=8, **options | {"output_dir": None})
    assert [row.get("restarted") for row in whole.history] == [None] + [True] * 7


def test_examples_are_counted_as_an_iterable_brings_them() -> None:
    case = CASES["linear"]()
    x, y = case.train["t"][0]
    tasks = [replace(task, train=[(x[:3], y[:3])]) if task.name == "t" else task for task in case.tasks()]
    result, _ = fit(case, tasks, rounds=1, steps_per_task=4, batch_size=7, **{"finetune.epochs": 0})
    assert result.summary["examples_seen"]["t"] == 4 * 3


def test_a_metric_that_is_not_a_number_at_the_end_is_told() -> None:
    case = CASES["linear"]()
    tasks = tasks_with_test(case)
    rows = len(tasks[1].test)

    def metric(model: nn.Module, batch: Any) -> Tensor:
        return torch.full((len(batch[0]),), math.nan if len(batch[0]) == rows else 0.5)

    tasks[1] = replace(tasks[1], metric=metric, dev=torch.utils.data.Subset(tasks[1].train, range(3)))
    with pytest.raises(Diverged, match="target 't': its metric on the test set is nan at the end; return finite"):
        fit(case, tasks, rounds=1, steps_per_task=1, test_every_round=False)


def test_a_package_that_is_missing_is_told_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find("upgrad"), "packages", ("torch", "no_such_package"))
    case = CASES["linear"]()
    with pytest.raises(AvilError, match="upgrad needs no_such_package, which is missing; install"):
        fit(case, case.tasks(), method="upgrad", rounds=1)


@pytest.mark.parametrize(
    ("dtypes", "named"),
    [
        ((torch.float16, torch.float16), "float16"),
        ((torch.float32, torch.float64), "float32, float64"),
        ((torch.float16, torch.bfloat16), "bfloat16, float16"),
    ],
)
def test_dtypes_that_fail_in_the_first_merge_are_refused(dtypes: tuple[torch.dtype, ...], named: str) -> None:
    model = nn.Sequential(*(nn.Linear(2, 2).to(dtype) for dtype in dtypes))
    with pytest.raises(AvilError, match=rf"trainable parameters are of {named}; convert it with \.float\(\)"):
        flatten(model, [])


def test_rounds_are_logged_without_a_folder_but_not_those_of_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[int] = []

    class Logger(Observer):
        def __init__(self, project: str, config: Any) -> None:
            logged.append(0)

        def round(self, row: dict[str, Any]) -> None:
            logged.append(row["round"])

        def close(self) -> None:
            logged.append(-1)

    monkeypatch.setattr("avil_fast.run.metric_loggers.WandB", Logger)
    monkeypatch.setattr("avil_fast.run.metric_loggers._has", lambda package: True)
    case = CASES["linear"]()
    options = {"rounds": 2, "steps_per_task": 1, "log.wandb": "mine"}
    fit(case, case.tasks(), **options)
    assert logged == [0, 1, 2, -1]
    config = from_dotted({"target": "t", "output_dir": None} | options)
    storage = RunStorage().of_baseline("single", config, ALONE)
    training.train(copy.deepcopy(case.model), case.tasks(), config, storage=storage)
    assert logged == [0, 1, 2, -1]
