"""Small runs that use everything a checkpoint must hold, and all that they come to."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import avil_fast as avil
from avil_fast.randomness import seed_all

NAMES = ("a", "t", "b")


class Net(nn.Module):
    """Dropout, running statistics, a head for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Dropout(0.3), nn.Linear(9, 7))
        self.heads = nn.ModuleDict({name: nn.Linear(7, 3) for name in NAMES})

    def forward(self, x: Tensor, task: str) -> Tensor:
        return self.heads[task](self.trunk(x))


class Augmented(Dataset[Any]):
    """Draws from every generator for each example."""

    def __init__(self, seed: int, size: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(size, 5, generator=generator)
        self.y = torch.randint(3, (size,), generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        noise = float(torch.rand(())) + random.random() + np.random.rand()  # noqa: NPY002
        return self.x[i] + 0.1 * noise, self.y[i]


class Stream(IterableDataset[Any]):
    """Batches without a length, drawn anew in every pass."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.count):
            yield torch.randn(6, 5) + np.random.rand() * random.random(), torch.randint(3, (6,))  # noqa: NPY002


def plain(seed: int, size: int) -> TensorDataset:
    made = Augmented(seed, size)
    return TensorDataset(made.x, made.y)


def poisoned(seed: int, size: int) -> TensorDataset:
    """With an example that is no number."""
    made = Augmented(seed, size)
    made.x[3] = torch.nan
    return TensorDataset(made.x, made.y)


DATA = {
    "poisoned": lambda seed: poisoned(seed, 20 + seed),
    "augmented": lambda seed: Augmented(seed, 20 + seed),
    "tensors": lambda seed: plain(seed, 20 + seed),
    "shuffled": lambda seed: DataLoader(plain(seed, 20 + seed), batch_size=6, shuffle=True),
    "stream": lambda seed: Stream(seed, 3 + seed),
    "list": lambda seed: [*DataLoader(plain(seed, 20 + seed), batch_size=6)],
}


def tasks(data: str) -> list[avil.Task]:
    def task(name: str, seed: int) -> avil.Task:
        def loss(model: nn.Module, batch: Any) -> Tensor:
            jitter = 1 + 0.01 * random.random() * np.random.rand()  # noqa: NPY002
            found = functional.cross_entropy(model(batch[0], name), batch[1]) * jitter
            bad = data == "poisoned" and not model.training and bool(found > 1.5)  # far out in the α phase
            return found * torch.nan if bad else found

        def metric(model: nn.Module, batch: Any) -> Tensor:
            return (model(batch[0], name).argmax(1) == batch[1]).float()

        dev = plain(seed + 50, 12) if name == "t" else None
        return avil.Task(name, DATA[data](seed), loss, dev=dev, metric=metric, head=f"heads.{name}")

    return [task(name, seed) for seed, name in enumerate(NAMES)]


SETTINGS: dict[str, Any] = {
    "rounds": 3,
    "batch_size": 8,
    "steps_per_task": 3,
    "finetune.epochs": 2,
    "alpha.steps": 3,
    "optimizer.lr": 0.05,
    "weights.rule": "multiplicative",
    "seed": 3,
}


def model() -> Net:
    torch.manual_seed(1)
    return Net()


def fit(folder: Path | None, data: str = "tensors", resume: Any = None, **settings: Any) -> avil.Result:
    """A run from a model as it was made, in a process whose generators stand somewhere."""
    network, found = model(), tasks(data)
    seed_all(random.SystemRandom().getrandbits(30))
    return avil.fit(network, found, "t", resume=resume, output_dir=folder, **SETTINGS | settings)


EVERY_POINT = {"checkpoints.minutes": 0, "checkpoints.keep": 10_000, "checkpoints.background": False}


def found(result: avil.Result) -> dict[str, Any]:
    """Everything that must not depend on whether the run was interrupted."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]
    kept = ("dev_loss", "dev_metric", "best_round", "finetune_epoch", "steps", "rejected_steps")
    return {
        "rows": rows,
        "weights": result.weights.tolist(),
        "summary": {name: result.summary[name] for name in kept},
        "model": {name: tensor.tolist() for name, tensor in result.model.state_dict().items()},
    }
