"""Buffers that `forward` replaces instead of writing them: in rounds and rejected steps as if it wrote them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import avil_fast as avil
from avil_fast.config import DeltasConfig, OptimizerConfig
from avil_fast.engine.buffers import Buffers
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.settings import EngineSettings


class Centred(nn.Module):
    """Subtracts a running mean, which it writes or replaces, and counts its batches."""

    def __init__(self, replaces: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 2)
        self.replaces = replaces
        self.mean: Tensor
        self.count: Tensor
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            mean = 0.9 * self.mean + 0.1 * inputs.mean(0)
            if self.replaces:
                self.mean, self.count = mean, self.count + 1
            else:
                self.mean.copy_(mean)
                self.count.add_(1)
        return self.linear(inputs - self.mean)


class Table(nn.Module):
    """Keeps a table of as many rows as the longest batch had, as rotary embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.table: Tensor | None
        self.register_buffer("table", torch.zeros(1), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.table is None or len(inputs) > len(self.table):
            self.table = torch.arange(float(len(inputs)))
        return self.linear(inputs) + 0 * self.table[0]


def loss(model: nn.Module, batch: Any) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def batches(seed: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(6, 4, generator=generator), torch.arange(6) % 2) for _ in range(3)]


def engine_of(model: nn.Module) -> LocalEngine:
    tasks = [avil.Task(name, train=batches(i), dev=batches(9), loss=loss) for i, name in enumerate("ta")]
    return LocalEngine(model, tasks, 0, EngineSettings(OptimizerConfig(lr=0.1), DeltasConfig()))


def trained(model: nn.Module, look: Callable[[LocalEngine], object] = lambda engine: None) -> LocalEngine:
    """Two rounds, and what `look` sees between any two calls of the engine."""
    engine = engine_of(model)
    for round_ in range(2):
        engine.begin_round()
        for i, task in enumerate(engine.tasks):
            engine.begin_task(i, seed=round_)
            for batch in task.train:
                engine.train_step(batch)
                look(engine)
            engine.end_task()
            look(engine)
        engine.apply([1.0, 0.5])
        engine.target_gradient(engine.tasks[0].dev)
        engine.merge([1.0, 0.5])
        look(engine)
    return engine


def test_replaced_buffers_are_as_written_ones_at_every_point() -> None:
    seen: dict[bool, list[dict[str, Tensor]]] = {True: [], False: []}
    for replaces, states in seen.items():

        def look(engine: LocalEngine, states: list[dict[str, Tensor]] = states) -> None:
            state = engine.state()
            tensors = state.common | {k: v for k, v in state.own.items() if k.startswith("buffer")}
            tensors |= {f"model.{name}": value for name, value in engine.model.state_dict().items()}
            snapshot = {str(i): buffer for i, buffer in enumerate(engine.snapshot().buffers)}
            states.append({name: value.clone() for name, value in (tensors | snapshot).items()})

        trained(Centred(replaces), look)
    for replaced, written in zip(seen[True], seen[False], strict=True):
        assert replaced.keys() == written.keys()
        assert all(torch.equal(replaced[name], written[name]) for name in written)


@pytest.mark.parametrize("replaces", [True, False])
def test_a_rejected_step_puts_replaced_buffers_back(replaces: bool) -> None:
    engine = engine_of(Centred(replaces))
    engine.begin_round()
    engine.begin_task(0, seed=0)
    inputs, labels = batches(0)[0]
    engine.train_step((inputs, labels))
    mean, count = engine.model.mean.clone(), int(engine.model.count)
    for _ in range(2):
        engine.train_step((inputs * torch.nan, labels))
        assert torch.equal(engine.model.mean, mean)
        assert int(engine.model.count) == count
    engine.train_step((inputs, labels))
    assert int(engine.model.count) == count + 1


def test_what_restore_puts_back_is_in_the_model() -> None:
    model = Centred(replaces=True)
    engine = engine_of(model)
    kept = engine.snapshot()
    model(torch.ones(2, 4))
    engine.restore(kept)
    assert torch.equal(model.mean, torch.zeros(4))
    assert int(model.count) == 0


def test_a_table_that_grows_is_no_state_but_goes_on_within_a_turn() -> None:
    model, rows = Table(), []

    def look(engine: LocalEngine) -> None:
        rows.append(len(engine.model.table))
        assert engine.buffers() == [["table", [1]]]
        assert [len(buffer) for buffer in engine.snapshot().buffers] == [1]

    trained(model, look)
    assert rows == [6, 6, 6, 1, 6, 6, 6, 1, 1] * 2


def test_a_buffer_that_is_set_to_none_is_put_back() -> None:
    model = Table()
    engine = engine_of(model)
    model.table = None
    engine.begin_round()
    engine.begin_task(0, seed=0)
    engine.end_task()
    assert torch.equal(model.table, torch.zeros(1))


def test_expanded_buffers_become_ordinary_ones_and_tied_ones_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    mask = torch.arange(3.0)[:, None].expand(3, 3)
    for module in model:
        module.register_buffer("mask", mask)
    buffers = Buffers(model)
    assert buffers.names == ["0.mask"] == [name for name, _ in model.named_buffers()]
    assert model[0].mask is model[1].mask is buffers.placed()[0]
    assert torch.equal(model[0].mask, mask)
    assert model[0].mask.is_contiguous()
    trained(model)
    assert torch.equal(model[1].mask, mask)


def test_two_places_may_hold_each_other_s_tensors() -> None:
    model = nn.Module()
    model.register_buffer("now", torch.zeros(2))
    model.register_buffer("before", torch.ones(2))
    buffers = Buffers(model)
    model.before, model.now = model.now, torch.full((2,), 2.0)
    now, before = buffers.placed()
    now.fill_(3)
    assert before.tolist() == [0, 0] == model.before.tolist()
    assert model.now.tolist() == [3, 3]


def test_fp8_buffers_are_the_target_s() -> None:
    model = Centred(replaces=False)
    model.register_buffer("scales", torch.ones(3).to(torch.float8_e4m3fn))
    trained(model)
    assert model.scales.float().tolist() == [1, 1, 1]
