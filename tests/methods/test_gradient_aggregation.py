"""Aggregations of gradients, on deltas: torchjd's own where a task takes one step of SGD."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import avil_fast as avil
from avil_fast.methods import gradient_aggregation
from avil_fast.methods.turn import RoundProgress
from avil_fast.randomness import derive_seed, seeded
from tests.methods.models import CASES, NAMES, in_float64
from tests.methods.runs import PLAIN, first_batches, gradient, made, plain, theta


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
    own = plain(case, method=method, steps_per_task=1)
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


def test_an_aggregation_is_seeded_by_run_and_round(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(gradient_aggregation.PCGrad, "aggregator", lambda *_: lambda gram: gram.diagonal())
    for name in ("torchjd", "torchjd.aggregation"):  # its place is taken
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    seeded = gradient_aggregation.seeded
    monkeypatch.setattr(gradient_aggregation, "seeded", lambda seed: seeds.append(seed) or seeded(seed))
    for seed in (0, 1):
        method = made(method="pcgrad", seed=seed)
        for round_ in (1, 2):
            method.collect(round_)
            method.coefficients(round_)
            method.engine.merge([0.0] * 3)
            method.so_far = RoundProgress()
    assert len(set(seeds)) == 4


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_an_aggregator_sees_a_gram_matrix_whose_largest_square_is_one(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        gradient_aggregation.PCGrad, "aggregator", lambda *_: lambda gram: seen.append(gram) or gram.diagonal()
    )
    method = made(method="pcgrad")
    monkeypatch.setattr(gradient_aggregation.importlib, "import_module", lambda name: None)
    gram = [[4.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]]
    method.engine.gram = lambda: [[scale * value for value in row] for row in gram]
    method.coefficients(1)
    torch.testing.assert_close(seen[0], torch.tensor(gram, dtype=torch.float64) / 4)
