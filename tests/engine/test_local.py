"""The local engine keeps its contract: θ restored bit for bit, heads and buffers outside δ."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import avil_fast as avil
from avil_fast.config import DeltasConfig, OptimizerConfig, from_dotted
from avil_fast.deltas.codec import Codec
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.parameters import flatten
from avil_fast.engine.results import over_groups
from avil_fast.engine.settings import EngineSettings
from avil_fast.errors import AvilError
from avil_fast.methods.data import TaskData
from tests.methods.models import CASES, NAMES, Case, convolutional, linear


def engine_of(case: Case, codec: str = "fp32", **optimizer: object) -> LocalEngine:
    model = copy.deepcopy(case.model)
    settings = EngineSettings(OptimizerConfig(**optimizer), DeltasConfig(dtype=codec))
    return LocalEngine(model, case.tasks(), 1, settings)


def collect(engine: LocalEngine, case: Case) -> None:
    engine.begin_round()
    for i, name in enumerate(case.losses):
        engine.begin_task(i, seed=i)
        for batch in case.train[name]:
            engine.train_step(batch)
        engine.end_task()


def state(engine: LocalEngine) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}


@pytest.mark.parametrize("codec", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("name", CASES)
def test_theta_and_buffers_return_bit_for_bit_and_only_heads_move(name: str, codec: str) -> None:
    case = CASES[name]()
    engine = engine_of(case, codec)
    before = state(engine)
    collect(engine, case)
    for key, tensor in state(engine).items():
        of_head = any(prefix and key.startswith(prefix) for prefix in case.heads.values())
        assert torch.equal(tensor, before[key]) != of_head, key


def test_alpha_gradient_is_the_slope_of_the_dev_loss() -> None:
    case = CASES["transformer"]()
    case.model.double()
    engine = engine_of(case)
    collect(engine, case)
    alpha, step = [0.9, 0.4, -0.3], 1e-6

    def loss_at(i: int, by: float) -> float:
        engine.apply([a + by * (i == j) for j, a in enumerate(alpha)])
        return engine.target_gradient(case.dev)[1]

    slopes = [(loss_at(i, step) - loss_at(i, -step)) / (2 * step) for i in range(3)]
    engine.apply(alpha)
    assert over_groups(engine.target_gradient(case.dev)[0]) == pytest.approx(slopes, rel=1e-6)


def test_alpha_phase_is_in_eval_mode_and_leaves_statistics_alone() -> None:
    case = convolutional()
    engine = engine_of(case)
    collect(engine, case)
    engine.apply([1.0, 1.0, 1.0])
    before = {name: buffer.clone() for name, buffer in engine.model.named_buffers()}
    engine.target_gradient(case.dev)
    assert all(torch.equal(buffer, before[name]) for name, buffer in engine.model.named_buffers())


@pytest.mark.parametrize("alpha", [[0.0, 0.0, 0.0], [-5.0, 9.0, 1.0]])
def test_buffers_are_the_mean_over_tasks_whatever_alpha_is(alpha: list[float]) -> None:
    case = convolutional()
    ends = []
    for i, name in enumerate(NAMES):
        alone = engine_of(case)
        alone.begin_round()
        alone.begin_task(i, seed=i)
        for batch in case.train[name]:
            alone.train_step(batch)
        ends.append(alone.model.trunk[1].running_var.clone())
    engine = engine_of(case)
    collect(engine, case)
    engine.merge(alpha)
    torch.testing.assert_close(engine.model.trunk[1].running_var, torch.stack(ends).mean(0))
    assert int(engine.model.trunk[1].num_batches_tracked) == len(case.train["t"])


class TiedByMemory(nn.Module):
    """Two parameters, the second of which lies in the first."""

    def __init__(self, place: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Parameter(place(self.first.weight.detach()))


SHARED = [lambda whole: whole, lambda whole: whole.t(), lambda whole: whole[1], lambda whole: whole[3, 3]]


def engine_on(model: nn.Module) -> LocalEngine:
    task = avil.Task("t", train=[], dev=[], loss=mean_square)
    return LocalEngine(model, [task], 0, EngineSettings(OptimizerConfig(), DeltasConfig()))


@pytest.mark.parametrize("frozen", [None, "first.weight", "second"])
@pytest.mark.parametrize("place", SHARED)
def test_parameters_tied_by_memory_alone_are_refused(
    place: Callable[[torch.Tensor], torch.Tensor], frozen: str | None
) -> None:
    model = TiedByMemory(place)
    if frozen is not None:
        model.get_parameter(frozen).requires_grad_(False)
    before = model.first.weight.data_ptr()
    with pytest.raises(AvilError, match=r"'(first.weight|second)' and '(first.weight|second)' share memory"):
        engine_on(model)
    assert model.first.weight.data_ptr() == before


def test_frozen_parameters_may_lie_in_one_another() -> None:
    model = TiedByMemory(SHARED[1]).requires_grad_(False)
    model.third = nn.Linear(2, 2)
    engine_on(model).close()


def test_neighbours_in_memory_are_not_tied() -> None:
    model = nn.Module()
    memory = torch.zeros(6, 2)
    model.rows, model.more_rows = nn.Parameter(memory[:2]), nn.Parameter(memory[2:4])
    model.column, model.other_column = nn.Parameter(memory[4:, 0]), nn.Parameter(memory[4:, 1])
    engine_on(model).close()


def test_frozen_parameters_never_move_and_tied_ones_stay_tied() -> None:
    case = CASES["convolutional"]()
    engine = engine_of(case, weight_decay=0.5)
    collect(engine, case)
    engine.merge([2.0, -1.0, 1.0])
    engine.close()
    assert torch.equal(engine.model.frozen, case.model.frozen)
    case = CASES["transformer"]()
    engine = engine_of(case)
    collect(engine, case)
    engine.merge([1.0, 1.0, 1.0])
    engine.close()
    assert engine.model.output.weight is engine.model.embedding.weight
    assert not torch.equal(engine.model.output.weight, case.model.output.weight)


def test_a_model_on_another_device_is_refused() -> None:
    with pytest.raises(AvilError, match="parameters are on meta, which deltas cannot be computed on; put"):
        engine_on(nn.Linear(3, 2, device="meta"))


def test_close_leaves_an_ordinary_model() -> None:
    case = convolutional()
    case.model.eval()
    engine = engine_of(case)
    collect(engine, case)
    engine.close()
    assert not engine.model.training
    sizes = {p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in engine.model.parameters()}
    assert sizes == {True}
    assert all(p.grad is None for p in engine.model.parameters())


def test_without_memory_for_a_partition_the_model_is_an_ordinary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is full, say: what the partitions before it took would be held as long as the model."""
    floats = iter((torch.Tensor.float, None))

    def one_alone(tensor: torch.Tensor) -> torch.Tensor:
        made = next(floats)
        if made is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made(tensor)

    monkeypatch.setattr(torch.Tensor, "float", one_alone)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).bfloat16()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(torch.OutOfMemoryError):
        flatten(model, [], granularity="layer")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert (parameter.grad, parameter.untyped_storage().nbytes()) == (None, parameter.nbytes), name


def test_close_leaves_every_module_in_the_mode_that_it_came_in() -> None:
    model = convolutional().model
    model.train()
    model.trunk[1].eval()
    case = convolutional()
    case.model = model
    engine = engine_of(case)
    collect(engine, case)
    assert engine.model.trunk[1].training, "all of the model trains"
    engine.close()
    assert [module.training for module in engine.model.modules()] == [
        module.training for module in model.modules()
    ]


def test_snapshot_and_restore() -> None:
    case = convolutional()
    engine = engine_of(case)
    snapshot, before = engine.snapshot(), state(engine)
    collect(engine, case)
    engine.merge([1.0, 1.0, 1.0])
    engine.restore(snapshot)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(engine).items())


def test_a_run_begins_anew_where_it_began_and_without_moments() -> None:
    case = convolutional()
    engine, other = (engine_of(case, name="sgd", lr=0.1, momentum=0.9) for _ in range(2))
    engine.restart()
    assert same(engine, other), "nothing was kept"
    engine.keep_start()
    collect(engine, case)
    engine.merge([1.0, 1.0, 1.0])
    moved = state(engine)
    engine.restart()
    for one in (engine, other):
        collect(one, case)
        one.merge([1.0, 0.5, 0.0])
    assert same(engine, other)
    assert not all(torch.equal(tensor, moved[name]) for name, tensor in state(engine).items())
    after = state(engine)
    engine.restart()
    assert all(torch.equal(tensor, after[name]) for name, tensor in state(engine).items()), "it was forgotten"


def same(engine: LocalEngine, other: LocalEngine) -> bool:
    there = state(other)
    return all(torch.equal(tensor, there[name]) for name, tensor in state(engine).items())


def test_moments_are_reset_or_kept() -> None:
    def second_turn(moments: str) -> torch.Tensor:
        case = convolutional()
        engine = engine_of(case, name="sgd", lr=0.1, momentum=0.9, moments=moments)
        collect(engine, case)
        collect(engine, case)
        engine.merge([0.0, 1.0, 0.0])
        return torch.cat([p.detach().flatten() for p in engine.model.trunk.parameters()])

    assert not torch.equal(second_turn("reset"), second_turn("per_task"))


def test_the_int8_bank_holds_int8() -> None:
    engine = engine_of(convolutional(), "int8")
    (group,) = engine._deltas.shared
    numel = sum(codes.shape[1] for codes in group.bank.codes)
    assert {codes.dtype for codes in group.bank.codes} == {torch.int8}
    assert group.bank.nbytes <= 3 * (numel * (1 + 4 / 256) + 64 + 4)


def test_a_missing_delta_is_refused() -> None:
    engine = engine_of(convolutional())
    engine.begin_round()
    with pytest.raises(RuntimeError, match=r"tasks \[0, 1, 2\] were not captured"):
        engine.apply([1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"a": "haeds.a"}, "names no parameter that is its own; the modules with parameters are"),
        ({"a": "heads.a", "t": "heads.a"}, "both have 'heads.a.weight' in their head"),
    ],
)
def test_bad_heads(heads: dict[str, str], message: str) -> None:
    case = convolutional()
    case.heads = heads
    with pytest.raises(avil.AvilError, match=message):
        engine_of(case)


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [("fp32", r"set deltas.dtype: bf16 \(0.0 GB\) or deltas.dtype: int8"), ("int8", "train with fewer tasks")],
)
def test_a_bank_without_room_says_what_to_change(dtype: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = linear()
    before = [p.detach().clone() for p in case.model.parameters()]

    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")

    monkeypatch.setattr(Codec, "allocate", full)
    with pytest.raises(AvilError, match=rf"3 deltas in {dtype} take 0.0 GB, more than cpu has left; {advice}"):
        LocalEngine(case.model, case.tasks(), 1, EngineSettings(OptimizerConfig(), DeltasConfig(dtype=dtype)))
    for parameter, value in zip(case.model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.grad is None


class Weighted(TensorDataset):
    """Examples that do not count alike."""

    weights: ClassVar[list[int]] = [1, 5, 2, 0, 4, 3, 7]


def mean_square(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    x, weight = batch
    return (model(x).square().sum(1) * weight).sum() / weight.sum().clamp(min=1e-9)


class Spread:
    """A metric that no mean over examples gives: the range of the outputs."""

    name, higher_is_better = "spread", False

    def predict(self, model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        return model(batch[0])

    def score(self, rows: torch.Tensor) -> float:
        assert rows.dtype == torch.float64
        return float(rows.max() - rows.min())


@pytest.mark.parametrize("parts", [1, 3])
def test_weights_of_examples_are_those_of_the_mean_in_training_alpha_and_evaluation(parts: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 3, dtype=torch.float64)
    data = Weighted(x, torch.tensor(Weighted.weights, dtype=torch.float64))
    model = nn.Linear(3, 2, bias=False).double()
    task = avil.Task("t", train=data, loss=mean_square, dev=data, metric=Spread())
    config = from_dotted({"target": "t", "batch_size": 7, "eval_batch_size": 3})
    optimizer = OptimizerConfig(name="sgd", lr=0.1)
    engine = LocalEngine(copy.deepcopy(model), [task], 0, EngineSettings(optimizer, DeltasConfig(), parts=parts))
    batches = TaskData([task], config, engine.share)
    whole = mean_square(model, [x, torch.tensor(Weighted.weights, dtype=torch.float64)])
    (gradient,) = torch.autograd.grad(whole, model.parameters())
    engine.begin_round()
    found = engine.evaluate(0, batches.dev(0))
    assert found.loss == pytest.approx(whole.item(), rel=1e-12)
    assert found.metric == pytest.approx((model(x).max() - model(x).min()).item())
    assert not found.higher_is_better
    engine.begin_task(0, seed=0)
    for batch in batches.cycle(0, 1):
        engine.train_step(batch)
    assert engine.end_task().loss == pytest.approx(whole.item(), rel=1e-12)
    engine.apply([1.0])
    weight = dict(engine.model.named_parameters())["weight"].detach()
    torch.testing.assert_close(weight, model.weight.detach() - 0.1 * gradient, rtol=1e-12, atol=1e-14)
    moved = nn.Linear(3, 2, bias=False).double()
    moved.weight.data = weight.clone()
    after = mean_square(moved, [x, torch.tensor(Weighted.weights, dtype=torch.float64)])
    (slope,) = torch.autograd.grad(after, moved.parameters())
    table, loss = engine.target_gradient(batches.dev(0))
    assert loss == pytest.approx(after.item(), rel=1e-12)
    assert over_groups(table) == [pytest.approx(float((slope * -0.1 * gradient).sum()), rel=1e-9)]


def test_a_scorer_that_returns_no_rows_is_refused() -> None:
    model = nn.Linear(3, 2)
    scorer = Spread()
    scorer.predict = lambda model, batch: model(batch[0])[:, 0]  # type: ignore[method-assign]
    data = TensorDataset(torch.randn(4, 3), torch.ones(4))
    task = avil.Task("t", train=data, loss=mean_square, dev=data, metric=scorer)
    engine = LocalEngine(model, [task], 0, EngineSettings(OptimizerConfig(), DeltasConfig()))
    with pytest.raises(AvilError, match=r"predict\(\) of its metric returned shape \(4,\), but must return shape"):
        engine.evaluate(0, [data[:4]])


EMPTY = "task 't': one of its batches is empty; leave it out"


@pytest.mark.parametrize("parts", [1, 2])
def test_a_batch_without_examples_is_refused_in_training_alpha_and_evaluation(parts: int) -> None:
    data = [(torch.zeros(0, 3), torch.zeros(0))]
    task = avil.Task("t", train=data, loss=mean_square, dev=data)
    settings = EngineSettings(OptimizerConfig(), DeltasConfig(), parts=parts)
    engine = LocalEngine(nn.Linear(3, 2), [task], 0, settings)
    with pytest.raises(AvilError, match=EMPTY):
        engine.evaluate(0, data)
    with pytest.raises(AvilError, match=EMPTY):
        engine.target_gradient(data)
    engine.begin_round()
    engine.begin_task(0, seed=0)
    with pytest.raises(AvilError, match=EMPTY):
        engine.train_step(data[0])


def test_a_batch_without_weight_is_refused_in_training_alone() -> None:
    data = Weighted(torch.ones(7, 3), torch.zeros(7))
    data.weights = [0] * 7  # type: ignore[misc]
    task = avil.Task("t", train=data, loss=mean_square, dev=data)
    config = from_dotted({"target": "t", "batch_size": 7})
    engine = LocalEngine(nn.Linear(3, 2), [task], 0, EngineSettings(OptimizerConfig(), DeltasConfig()))
    (batch,) = TaskData([task], config, engine.share).cycle(0, 1)
    engine.begin_round()
    engine.begin_task(0, seed=0)
    with pytest.raises(
        AvilError, match="task 't': all examples of a batch have weight 0; leave such examples out"
    ):
        engine.train_step(batch)


def scored(score: Any) -> Any:
    """The metric of an evaluation whose scorer returns this."""
    scorer = Spread()
    scorer.score = lambda rows: score  # type: ignore[method-assign]
    data = [(torch.ones(4, 3), torch.ones(4))]
    task = avil.Task("t", train=data, loss=mean_square, dev=data, metric=scorer)
    engine = LocalEngine(nn.Linear(3, 2), [task], 0, EngineSettings(OptimizerConfig(), DeltasConfig()))
    return engine.evaluate(0, data).metric


@pytest.mark.parametrize("score", [np.float32(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor([0.5]), 0.5])
def test_a_score_may_be_any_number(score: Any) -> None:
    assert type(scored(score)) is float
    assert scored(score) == 0.5


@pytest.mark.parametrize("score", [None, "high", {"f1": 0.5}, torch.ones(2), np.ones(2), 1j])
def test_a_score_that_is_no_number_is_refused(score: Any) -> None:
    with pytest.raises(
        AvilError, match=rf"score\(\) of its metric returned {type(score).__name__}, but must return"
    ):
        scored(score)
