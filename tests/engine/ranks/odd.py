"""A model whose parameters are laid out in odd ways: channels_last, transposed, scalar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import avil_fast as avil
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from avil_fast.errors import AvilError
from tests.engine.ranks.cases import Case, theta
from tests.engine.ranks.worker import engine_of


class Odd(nn.Module):
    """Two convolutions in channels_last, a transposed layer, a learned scale, as CLIP has one, and so many
    parameters without a use."""

    def __init__(self, with_scale: bool, unused: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.convolutions[0].requires_grad_(False)
        self.linear = nn.Linear(4, 2)
        self.linear.weight = nn.Parameter(torch.randn(4, 2).t())
        self.scale = nn.Parameter(torch.tensor(1.5)) if with_scale else 1.5
        self.unused = nn.Parameter(torch.zeros(unused))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(self.convolutions(inputs[:, :, None, None]).flatten(1)) * self.scale


def odd_tasks() -> list[avil.Task]:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    torch.manual_seed(1)
    batches = [(torch.randn(8, 4), torch.arange(8) % 2) for _ in range(3)]
    return [avil.Task("t", batches, loss, dev=batches[:1]), avil.Task("a", batches[1:], loss)]


def a_round(engine: Engine) -> dict[str, Any]:
    """θ of a round of αVIL by hand, and the model's parameters after `close`."""
    engine.begin_round()
    for i, task in enumerate(engine.tasks):
        engine.begin_task(i, seed=0)
        for batch in task.train:
            engine.train_step(batch)
        engine.end_task()
    engine.apply([1.0, 0.5])
    (gradient,), loss = engine.target_gradient(engine.tasks[0].dev)
    engine.merge([1.0, 0.5])
    found = {"gradient": gradient, "loss": loss, "theta": theta(engine)}
    engine.close()
    return found | {"closed": {name: p.detach().clone() for name, p in engine.model.named_parameters()}}


@dataclass(frozen=True)
class OddCase:
    """A round of a ZeRO stage, with what it takes; or what it says to what it does not."""

    case: Case
    with_scale: bool
    unused: int = 0

    def __call__(self, ranks: Ranks) -> dict[str, Any] | str:
        model, before = Odd(self.with_scale, self.unused), functional.linear
        try:
            return a_round(engine_of(self.case, ranks, model, odd_tasks())) | {
                "linear": functional.linear is before
            }
        except AvilError as error:
            return str(error)
