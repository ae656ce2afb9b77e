"""Small models with their tasks' data, shared by the tests: linear, convolutional with heads, transformer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import avil_fast as avil

Batch = tuple[Tensor, Tensor]


@dataclass
class Case:
    """A model, and per task its loss, head and training batches; dev batches of the target `t`."""

    model: nn.Module
    losses: dict[str, Callable[[nn.Module, Batch], Tensor]]
    train: dict[str, list[Batch]]
    dev: list[Batch]
    heads: dict[str, str | None] = field(default_factory=dict)

    def tasks(self) -> list[avil.Task]:
        return [
            avil.Task(
                name, self.train[name], loss, dev=self.dev if name == "t" else None, head=self.heads.get(name)
            )
            for name, loss in self.losses.items()
        ]


NAMES = ("a", "t", "b")


def linear() -> Case:
    torch.manual_seed(0)
    truth = torch.randn(6, 1)

    def data(noise: float) -> list[Batch]:
        batches = []
        for size in (8, 8, 5):
            x = torch.randn(size, 6)
            batches.append((x, x @ truth + noise * torch.randn(size, 1)))
        return batches

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.mse_loss(model(batch[0]), batch[1])

    train = {name: data(noise) for name, noise in zip(NAMES, (0.5, 0.1, 3.0), strict=True)}
    return Case(nn.Linear(6, 1), dict.fromkeys(NAMES, loss), train, data(0.1))


class HeadedConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()
        )
        self.frozen = nn.Parameter(torch.ones(64), requires_grad=False)
        self.heads = nn.ModuleDict({name: nn.Linear(64, 3) for name in NAMES})

    def forward(self, x: Tensor, task: str) -> Tensor:
        return self.heads[task](self.trunk(x) * self.frozen)


def convolutional() -> Case:
    torch.manual_seed(1)

    def data() -> list[Batch]:
        return [(torch.randn(n, 1, 8, 8), torch.randint(3, (n,))) for n in (6, 6, 4)]

    def loss_of(name: str) -> Callable[[nn.Module, Batch], Tensor]:
        return lambda model, batch: functional.cross_entropy(model(batch[0], name), batch[1])

    return Case(
        HeadedConvNet(),
        {name: loss_of(name) for name in NAMES},
        {name: data() for name in NAMES},
        data(),
        {name: f"heads.{name}." for name in NAMES},
    )


class TiedTransformer(nn.Module):
    """One encoder layer over 7 tokens, output tied to the embedding, and a classifier for task b."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.output = nn.Linear(8, 7, bias=False)
        self.output.weight = self.embedding.weight
        self.classifier = nn.Linear(8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.encoder(self.embedding(tokens))


def transformer() -> Case:
    torch.manual_seed(2)

    def data() -> list[Batch]:
        batches = []
        for size in (4, 4, 3):
            tokens = torch.randint(7, (size, 6))
            batches.append((tokens, tokens.roll(1, 1)))
        return batches

    def words(model: nn.Module, batch: Batch) -> Tensor:
        logits = model.output(model(batch[0]))
        return functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten())

    def parity(model: nn.Module, batch: Batch) -> Tensor:
        logits = model.classifier(model(batch[0]).mean(1))
        return functional.cross_entropy(logits, batch[1].sum(1) % 2)

    losses = {"a": words, "t": words, "b": parity}
    return Case(TiedTransformer(), losses, {n: data() for n in NAMES}, data(), {"b": "classifier."})


CASES = {"linear": linear, "convolutional": convolutional, "transformer": transformer}
LAYERS = {
    "linear": ["model"],
    "convolutional": ["trunk.0", "trunk.1", "trunk.3"],
    "transformer": ["embedding", "encoder.layers.0"],
}
"""Of the shared parameters of each case, in their order."""


def row_of(name: str, layers: list[str]) -> int:
    """The layer of a parameter; a head goes with the last one."""
    return next((row for row, layer in enumerate(layers) if name.startswith(layer + ".")), len(layers) - 1)


def in_float64(case: Case) -> Case:
    """The same case with model and data in fp64."""

    def cast(batches: list[Batch]) -> list[Any]:
        return [tuple(t.double() if t.is_floating_point() else t for t in batch) for batch in batches]

    train = {name: cast(batches) for name, batches in case.train.items()}
    return Case(case.model.double(), case.losses, train, cast(case.dev), case.heads)
