"""What a codec costs: the error of the α gradient on deltas that training made."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import avil_fast as avil
from avil_fast.config import DeltasConfig, OptimizerConfig, load
from avil_fast.deltas.bank import Bank
from avil_fast.deltas.codec import CODECS, Codec
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.settings import EngineSettings
from avil_fast.methods.data import TaskData
from avil_fast.tasks.from_config import build

STEPS = 8


class Transformer(nn.Module):
    """Two encoder layers over 16 tokens; a head for each of two questions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.heads = nn.ModuleDict({"most": nn.Linear(64, 50), "even": nn.Linear(64, 2)})

    def forward(self, tokens: Tensor, head: str) -> Tensor:
        return self.heads[head](self.encoder(self.embedding(tokens)).mean(1))


def transformer() -> tuple[nn.Module, list[avil.Task]]:
    """The largest token of a sequence, with the help of whether the sum is even and of the last token."""
    torch.manual_seed(0)
    questions = {
        "largest": ("most", lambda tokens: tokens.amax(1)),
        "even": ("even", lambda tokens: tokens.sum(1) % 2),
        "last": ("most", lambda tokens: tokens[:, -1]),
    }

    def data(name: str, count: int) -> TensorDataset:
        tokens = torch.randint(50, (count, 16))
        return TensorDataset(tokens, questions[name][1](tokens))

    def task(name: str) -> avil.Task:
        head = questions[name][0]
        dev = data(name, 64) if name == "largest" else None
        return avil.Task(
            name, data(name, 256), lambda m, b: functional.cross_entropy(m(b[0], head), b[1]), dev=dev
        )

    return Transformer(), [task(name) for name in questions]


def digits() -> tuple[nn.Module, list[avil.Task]]:
    torch.manual_seed(0)
    return build(load(None, ["tasks.auxiliary_train=300", "tasks.test=10"]))[:2]


def trained(model: nn.Module, tasks: list[avil.Task]) -> tuple[LocalEngine, TaskData]:
    """An engine whose bank holds, in fp32, what some steps of every task made."""
    engine = LocalEngine(copy.deepcopy(model), tasks, 0, EngineSettings(OptimizerConfig(), DeltasConfig()))
    data = TaskData(tasks, load(None))
    engine.begin_round()
    for task in range(len(tasks)):
        engine.begin_task(task, seed=task)
        for batch in data.cycle(task, STEPS):
            engine.train_step(batch)
        engine.end_task()
    return engine, data


def encoded(bank: Bank, codec: Codec) -> Bank:
    """The same deltas in another codec."""
    other = Bank(bank.n, [codes.shape[1] for codes in bank.codes], codec, torch.device("cpu"))
    for slot in range(bank.n):
        deltas = [codes[slot].clone() for codes in bank.codes]
        other.capture_(slot, deltas, [torch.zeros_like(delta) for delta in deltas])
    return other


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", ["bf16", "int8", "fp8"])
@pytest.mark.parametrize("case", [digits, transformer])
def test_the_alpha_gradient_hardly_changes(case, dtype: str, alpha: float) -> None:
    """⟨g, δ_i⟩ with the g of the target's dev loss at θ + α Σ δ_i, beside that of fp32 deltas."""
    engine, data = trained(*case())
    engine.apply([alpha] * len(engine.tasks))
    engine.target_gradient(data.dev(0))
    (group,) = engine._deltas.shared
    grad = [partition.grad for partition in group.shards]
    exact = torch.tensor(group.bank.dots(grad))
    error = (torch.tensor(encoded(group.bank, CODECS[dtype]).dots(grad)) - exact).norm() / exact.norm()
    assert 0 < error <= {"bf16": 2e-3, "int8": 5e-3, "fp8": 1e-2}[dtype]
