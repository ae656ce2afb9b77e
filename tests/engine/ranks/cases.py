"""What the parity tests run on one process and on many ranks: a model, its batches, and two rounds of αVIL."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import avil_fast as avil
from avil_fast.config import DeltasConfig, OptimizerConfig
from avil_fast.engine.base import Engine
from avil_fast.engine.parameters import Granularity
from avil_fast.engine.results import over_groups

NAMES = ("a", "t", "b")
TARGET = 1


class Encoder(nn.Module):
    """Two transformer layers over a frozen embedding; a head for each task, and an adapter that the target skips.

    Sizes are odd, so that no partition ends where a parameter does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 12)
        self.embedding.weight.requires_grad_(False)
        layer = nn.TransformerEncoderLayer(12, 3, 19, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.gain = nn.Parameter(torch.ones(7))
        self.adapter = nn.Linear(12, 12)
        self.heads = nn.ModuleDict({name: nn.Linear(12, 3) for name in NAMES})

    def forward(self, tokens: Tensor, task: str) -> Tensor:
        embedded = self.embedding(tokens) * self.gain.mean().to(self.embedding.weight.dtype)
        pooled = self.encoder(embedded).mean(1)
        return self.heads[task](pooled if task == "t" else pooled + self.adapter(pooled))


@dataclass(frozen=True)
class Case:
    """How a run trains. The same case runs on the local engine and under ZeRO."""

    stage: int = 2
    optimizer: dict[str, Any] = field(default_factory=dict)
    deltas: str = "fp32"
    parts: int = 1
    zero: dict[str, Any] = field(default_factory=dict)
    """More settings of DeepSpeed's `zero_optimization`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """More settings of DeepSpeed."""
    scale_target_head: bool = True
    granularity: Granularity = "model"

    def optimizer_config(self) -> OptimizerConfig:
        # With Adam's usual eps, a gradient that is zero but for rounding moves a parameter at full speed.
        return OptimizerConfig(**{"name": "adamw", "lr": 0.02, "eps": 1e-3, "weight_decay": 0.1} | self.optimizer)

    def deltas_config(self) -> DeltasConfig:
        return DeltasConfig(dtype=self.deltas)

    @property
    def bf16(self) -> bool:
        return bool(self.settings.get("bf16", {}).get("enabled"))


def model() -> Encoder:
    torch.manual_seed(0)
    return Encoder()


def batches(seed: int, sizes: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for size in sizes:
        tokens = torch.randint(11, (size, 5), generator=generator)
        made.append((tokens, tokens.sum(1) % 3))
    return made


def tasks() -> list[avil.Task]:
    def task(name: str, seed: int) -> avil.Task:
        def loss(model: nn.Module, batch: Any) -> Tensor:
            return functional.cross_entropy(model(batch[0], name).float(), batch[1])

        def metric(model: nn.Module, batch: Any) -> Tensor:
            return (model(batch[0], name).argmax(1) == batch[1]).float()

        # Sizes that ranks and parts do not divide, one with fewer examples than ranks.
        train = batches(seed, (8, 13, 3))
        dev = batches(seed + 50, (16, 7)) if name == "t" else None
        return avil.Task(name, train, loss, dev=dev, metric=metric, head=f"heads.{name}")

    return [task(name, seed) for seed, name in enumerate(NAMES)]


def rounds(engine: Engine, count: int = 2, look: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Rounds of αVIL by hand: α gradients of every step, θ of every round, and what else an engine tells."""
    found: dict[str, Any] = {"gradients": [], "losses": [], "theta": [], "norms": [], "train": [], "gram": []}
    found["groups"] = dict(engine.groups)
    for round_ in range(count):
        engine.begin_round()
        for i, task in enumerate(engine.tasks):
            engine.begin_task(i, seed=round_)
            for step, batch in enumerate(engine.fetch(task.train)):
                engine.train_step(batch, loss_weight=1.0 - 0.2 * i, lr_scale=1.0 - 0.1 * step)
            run = engine.end_task()
            found["norms"].append(run.delta_norm)
            found["train"].append(run.loss)
        found["gram"].append(engine.gram())
        alpha = torch.tensor([1.0, 0.7, 0.4], dtype=torch.float64).repeat(len(engine.groups), 1)
        for _ in range(3):
            engine.apply(alpha.tolist())
            gradient, loss = engine.target_gradient(engine.tasks[TARGET].dev)
            found["gradients"].append(gradient)
            found["losses"].append(loss)
            alpha -= 0.3 * torch.tensor(gradient, dtype=torch.float64)
        engine.merge(alpha.tolist())
        found["theta"].append(theta(engine))
        look()
    evaluation = engine.evaluate(TARGET, engine.tasks[TARGET].dev)
    found["evaluation"] = [evaluation.loss, evaluation.metric]
    kept = engine.snapshot()
    engine.begin_round()
    engine.begin_task(TARGET, seed=9)
    engine.train_step(engine.tasks[TARGET].train[0])
    found["moved"] = engine.end_task(restore=False).delta_norm
    found["finetuned"] = theta(engine)
    look()
    for turn in (TARGET, 0):  # the losses and heads of all tasks within the turn of one
        engine.restore(kept)
        engine.begin_round()
        engine.begin_task(turn, seed=turn)
        for step, task in enumerate((0, TARGET, 2, TARGET, 0)):
            engine.train_step(engine.tasks[task].train[step % 3], task=task, lr_scale=0.5)
        found["moved in turns"] = engine.end_task(restore=turn == 0).delta_norm
        found[f"mixed in the turn of {turn}"] = theta(engine)
    engine.restore(kept)
    found["restored"] = theta(engine)
    look()
    return found


def theta(engine: Engine) -> dict[str, Tensor]:
    return {name: copy.deepcopy(tensor).float() for name, tensor in engine.weights()}


def one_step_each(engine: Engine) -> None:
    """A round up to the α phase, with a single step of every task; the model is θ + Σ δ_i."""
    engine.begin_round()
    for i, task in enumerate(engine.tasks):
        engine.begin_task(i, seed=0)
        engine.train_step(task.train[0])
        engine.end_task()
    engine.apply([1.0] * len(engine.tasks))


def repeated(engine: Engine) -> list[list[float]]:
    """The α gradient on a dev set of one batch, and of that batch many times over: the mean is the same."""
    one_step_each(engine)
    dev = engine.tasks[TARGET].dev[:1]
    return [over_groups(engine.target_gradient(dev * times)[0]) for times in (1, 600)]
