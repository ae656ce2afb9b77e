"""Every layer may have coefficients of its own: their gradient is autograd's, and equal ones are the model's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from avil_fast.config import DeltasConfig, OptimizerConfig
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.results import over_groups
from avil_fast.engine.settings import EngineSettings
from tests.engine.ranks.cases import Case, model, rounds
from tests.engine.test_ranks import difference, local_engine
from tests.methods.models import CASES, LAYERS, in_float64, row_of
from tests.methods.reference_avil import Wrapper


def collected(name: str, **options: Any) -> LocalEngine:
    """An engine on a case in fp64 whose tasks have trained."""
    case = in_float64(CASES[name]())
    optimizer = OptimizerConfig(name="sgd", lr=0.1)
    settings = EngineSettings(optimizer, DeltasConfig(), **options)
    engine = LocalEngine(copy.deepcopy(case.model), case.tasks(), 1, settings)
    engine.begin_round()
    for i, task in enumerate(engine.tasks):
        engine.begin_task(i, seed=i)
        for batch in task.train:
            engine.train_step(batch)
        engine.end_task()
    return engine


def table_of(groups: int) -> Tensor:
    torch.manual_seed(groups)
    return 0.5 + torch.rand(groups, 3, dtype=torch.float64)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_every_group_is_autograd_s(name: str, scaled: bool) -> None:
    engine = collected(name, granularity="layer", scale_target_head=scaled)
    assert list(engine.groups) == LAYERS[name]
    alpha = table_of(len(engine.groups)).requires_grad_()
    point = {key: tensor.detach().clone() for key, tensor in engine.base()}
    for i in range(3):
        for key, delta in engine.deltas(i):
            point[key] = point[key] + alpha[row_of(key, LAYERS[name]), i] * delta
    engine.apply(alpha.tolist())
    found, loss = engine.target_gradient(engine.tasks[1].dev)
    for key, parameter in engine.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), point[key].detach(), rtol=0, atol=1e-12)

    target = engine.tasks[1]
    network = Wrapper(copy.deepcopy(engine.model).eval())
    if name == "transformer":
        network.model.output.weight = network.model.embedding.weight
    named = {f"model.{key}": value for key, value in point.items() if key in dict(engine.model.named_parameters())}
    total = sum(len(batch[0]) * functional_call(network, named, (target.loss, batch)) for batch in target.dev)
    mean = total / sum(len(batch[0]) for batch in target.dev)
    (expected,) = torch.autograd.grad(mean, alpha)
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected, rtol=1e-9, atol=1e-12)
    assert loss == pytest.approx(mean.item(), rel=1e-12)
    assert over_groups(found) == pytest.approx(expected.sum(0).tolist(), rel=1e-9)


@pytest.mark.parametrize("optimizer", [{}, {"clip_norm": 0.05}, {"moments": "reset"}])
def test_groups_with_the_same_coefficients_are_one(optimizer: dict[str, Any]) -> None:
    found = rounds(OneRow(local_engine(Case(optimizer=optimizer, granularity="layer"), model())))  # type: ignore[arg-type]
    expected = rounds(local_engine(Case(optimizer=optimizer), model()))
    assert len(found.pop("groups")) == 4
    assert expected.pop("groups").keys() == {"model"}
    found["gradients"] = [table[:1] for table in found["gradients"]]
    for key, value in expected.items():
        assert difference(found[key], value) <= 1e-6, key


class OneRow:
    """An engine that is given, and gives, [n] for all groups."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def apply(self, alpha: list[list[float]]) -> None:
        self._engine.apply(alpha[0])

    def merge(self, alpha: list[list[float]]) -> None:
        self._engine.merge(alpha[0])

    def target_gradient(self, batches: Any) -> tuple[list[list[float]], float]:
        gradient, loss = self._engine.target_gradient(batches)
        return [over_groups(gradient)] * len(self._engine.groups), loss


def test_elements_are_those_of_the_shared_parameters() -> None:
    engine = collected("convolutional", granularity="layer", scale_target_head=True)
    shapes = {name: p.numel() for name, p in engine.model.named_parameters()}
    of_layers = [sum(n for key, n in shapes.items() if key.startswith(layer)) for layer in LAYERS["convolutional"]]
    assert list(engine.groups.values()) == of_layers
    engine = collected("convolutional")
    assert engine.groups == {"model": sum(of_layers)}


@pytest.mark.parametrize("shape", [(2, 3), (2,), (3, 2)])
def test_a_table_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    engine = collected("convolutional", granularity="layer")
    before = [p.detach().clone() for p in engine.model.parameters()]
    with pytest.raises(RuntimeError, match="must match the existing size"):
        engine.apply(torch.ones(shape).tolist())
    assert all(torch.equal(p, was) for p, was in zip(engine.model.parameters(), before, strict=True))
