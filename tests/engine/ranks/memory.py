"""What a rank holds at most in task training and in the α phase, by malloc's account."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import avil_fast as avil
from avil_fast.config import OptimizerConfig
from avil_fast.engine.ranks import Ranks
from benchmarks import heap
from tests.engine.ranks.cases import Case
from tests.engine.ranks.worker import engine_of

WIDTH, LAYERS = 251, 8


def whole_pages(size: int) -> int:
    """Bytes of a block as malloc maps it, with its header and in whole pages."""
    page = mmap.PAGESIZE
    return -(-(size + 16) // page) * page


class Wide(nn.Module):
    """Half a million parameters, and few activations."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, 2) for name in "abc"})

    def forward(self, x: Tensor, task: str) -> Tensor:
        return self.heads[task](self.layers(x))


def wide_tasks() -> list[avil.Task]:
    def task(name: str) -> avil.Task:
        def loss(model: nn.Module, batch: Any) -> Tensor:
            return functional.cross_entropy(model(batch[0], name), batch[1])

        batches = [(torch.randn(8, WIDTH), torch.arange(8) % 2) for _ in range(2)]
        return avil.Task(name, batches, loss, dev=batches, head=f"heads.{name}")

    return [task(name) for name in "abc"]


@dataclass(frozen=True)
class MemoryCase:
    """A case that measures: base, bank, and peaks of task training and the α phase in bytes."""

    case: Case

    def __call__(self, ranks: Ranks) -> dict[str, Any]:
        engine = engine_of(self.case, ranks, Wide(), wide_tasks(), OptimizerConfig())

        def train() -> None:
            for i, task in enumerate(engine.tasks):
                engine.begin_task(i, seed=0)
                for batch in task.train:
                    engine.train_step(batch)
                engine.end_task()

        def learn_alpha() -> None:
            for _ in range(2):
                engine.apply([1.0, 0.5, 0.5])
                engine.target_gradient(engine.tasks[0].dev)
            engine.merge([1.0, 0.5, 0.5])

        found = []
        for _ in range(5):
            engine.begin_round()
            found.append((heap.peak(train, heap.mapped), heap.peak(learn_alpha, heap.mapped)))
        # The first round makes moments and what else stays. Of the others the most: a buffer of gloo's is there in
        # every gather, but its threads have often given it back before anybody looks.
        training, alpha = (max(peaks) for peaks in zip(*found[1:], strict=True))
        memory = engine.memory()
        engine.close()
        return {"training": training, "alpha": alpha, "base": memory.base, "bank": memory.bank}
