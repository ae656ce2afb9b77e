"""Parts that methods are made of, each by itself: orders and seeds, a joint turn, the fine-tune, what is kept."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import avil_fast as avil
from avil_fast.config import from_dotted
from avil_fast.engine.factory import make_engine
from avil_fast.engine.ranks import ALONE
from avil_fast.engine.results import Evaluation, TaskRun
from avil_fast.methods import find, gradient_aggregation
from avil_fast.methods.base import Method
from avil_fast.methods.best import Best
from avil_fast.methods.data import TaskData
from avil_fast.methods.finetune import Finetune, finetune
from avil_fast.methods.loop import TrainingRun
from avil_fast.methods.multitask import Multitask
from avil_fast.methods.scalar_rules import cosines, reweighted
from avil_fast.methods.turn import Hooks, RoundProgress
from avil_fast.randomness import derive_seed
from tests.methods.models import CASES

TARGET = 1


def made(case: str = "linear", **options: Any) -> Method:
    """A method on an engine, before its first round."""
    config = from_dotted({"target": "t", "output_dir": None, "steps_per_task": 4} | options)
    kind, of = find(config.method), CASES[case]()
    tasks = kind.trained(of.tasks(), TARGET)
    engine = make_engine(
        copy.deepcopy(of.model), tasks, TARGET, config, ALONE, kind.granularity(config), kind.keeps_deltas
    )
    return kind(engine, TaskData(tasks, config), config, Hooks())


def test_an_order_depends_on_the_run_s_seed_and_on_what_it_is_for() -> None:
    method, other = made(), made(seed=1)
    orders = [method.shuffled([20] * 3, 1), method.shuffled([20] * 3, 2), other.shuffled([20] * 3, 1)]
    assert len({tuple(order) for order in orders}) == 3
    assert method.shuffled([20] * 3, 1) == orders[0]
    assert [sorted(order) for order in orders] == [sorted([0, 1, 2] * 20)] * 3


def test_a_branch_of_forkmerge_has_an_order_of_its_own_in_every_round() -> None:
    method = made(method="forkmerge", steps_per_task=40)
    orders = [
        [task if of == task else -1 for of in method.tasks_of_steps(task, r)] for task in (0, 2) for r in (1, 2)
    ]
    patterns = [tuple(of == -1 for of in order) for order in orders]
    assert len(set(patterns)) == 4
    assert [sum(pattern) for pattern in patterns] == [20] * 4


def test_what_is_collected_is_trained_on_the_losses_of_its_round() -> None:
    method = made(method="forkmerge")
    asked: list[tuple[int, int]] = []
    own = method.tasks_of_steps
    method.tasks_of_steps = lambda task, round_: asked.append((task, round_)) or own(task, round_)
    method.collect(3)
    assert asked == [(0, 3), (1, 3), (2, 3)]


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


def test_the_record_of_a_merge_has_the_cosines_of_its_deltas() -> None:
    method = made(method="diw")
    record = method.round(1)
    assert record.cosine == cosines(method.engine.gram())
    assert [row[i] for i, row in enumerate(record.cosine)] == pytest.approx([1.0] * 3)


def test_a_joint_turn_moves_theta_by_one_delta_which_is_the_target_s() -> None:
    method = made(method="multitask")
    before = torch.cat([p.detach().flatten().clone() for p in method.engine.model.parameters()])
    method.begin()
    joint = method.train_jointly(1, [4, 4, 4])
    after = torch.cat([p.detach().flatten() for p in method.engine.model.parameters()])
    moved = float((after - before).norm())
    assert moved > 0
    assert joint.delta_norm == pytest.approx([0.0, moved, 0.0])
    assert len(joint.train_loss) == 3
    assert None not in joint.train_loss


def rising() -> Iterator[Evaluation]:
    loss = 0.0
    while True:
        loss += 1
        yield Evaluation(loss, None)


@pytest.mark.parametrize(("always", "kept"), [(False, 0), (True, 3)])
def test_an_epoch_of_the_finetune_is_kept_if_it_is_better_or_always(always: bool, kept: int) -> None:
    method = made(method="single", **{"finetune.epochs": 3})
    best, evaluations = Best(), rising()
    best.offer(next(evaluations), method.engine)
    method.engine.evaluate = lambda task, batches: next(evaluations)
    done = Finetune()
    finetune(method.engine, method.data, method.config, best, done, Hooks(), always)
    assert (done.epoch, done.best_epoch) == (3, kept)
    assert best.evaluation == Evaluation(kept + 1.0, None)


def test_by_default_a_finetune_and_a_best_model_keep_what_is_better() -> None:
    method = made(method="single", **{"finetune.epochs": 1})
    best, evaluations, done = Best(), rising(), Finetune()
    assert best.offer(next(evaluations), method.engine)
    assert not best.offer(next(evaluations), method.engine)
    method.engine.evaluate = lambda task, batches: next(evaluations)
    finetune(method.engine, method.data, method.config, best, done, Hooks())
    assert done.best_epoch == 0


@pytest.mark.parametrize("stopped_after", [0, 1, 3])
def test_a_finetune_that_is_taken_up_within_an_epoch_takes_the_steps_that_are_left(stopped_after: int) -> None:
    """Of the epoch's batches, and of the decay: in all so many steps, at rates that fall linearly to 0."""
    method = made("linear", method="single", **{"finetune.epochs": 2, "batch_size": 4})
    steps = method.data.finetune_steps(TARGET)
    rates: list[float] = []
    step = method.engine.train_step

    def train_step(batch: Any, **options: Any) -> Any:
        rates.append(options["lr_scale"])
        return step(batch, **options)

    if stopped_after:
        method.engine.begin_round()
        method.engine.begin_task(TARGET, 0)
    method.engine.train_step = train_step
    done = Finetune(so_far=RoundProgress(step=stopped_after))
    best = Best()
    finetune(method.engine, method.data, method.config, best, done, Hooks(), always=True)
    assert rates == pytest.approx([1 - k / (2 * steps) for k in range(stopped_after, 2 * steps)])
    assert method.data.steps_taken[TARGET] == 2 * steps - stopped_after


def test_a_weight_of_zero_stays_zero() -> None:
    assert reweighted([0.0, 1.0, 1.0], [5.0, 0.0, 0.0]) == pytest.approx([0.0, 1.5, 1.5])
    assert reweighted([0.0, 0.0], [1.0, 1.0]) == [0.0, 0.0]
    assert reweighted([1.0, 1.0], [-math.inf, -math.inf]) == [1.0, 1.0]


@pytest.mark.parametrize(("examples", "passes"), [(2, 0.2), (10, 1.0), (40, 1.0)])
def test_a_draw_of_dev_counts_as_the_part_of_a_pass_that_it_is(examples: int, passes: float) -> None:
    x, y = torch.randn(10, 6), torch.randn(10, 1)
    [task] = CASES["linear"]().tasks()[TARGET : TARGET + 1]
    task = avil.Task("t", TensorDataset(x, y), task.loss, dev=TensorDataset(x, y))
    config = from_dotted({"target": "t", "output_dir": None, "alpha.dev_examples": examples})
    data = TaskData([task], config)
    assert len(list(data.dev_draw(0))) == 1
    assert data.dev_passes == pytest.approx(passes)
    list(data.dev_draw(0))
    assert data.dev_passes == pytest.approx(2 * passes)


def test_the_seconds_of_a_snapshot_are_those_of_saving() -> None:
    method = made()
    method.engine.take_seconds()
    Best().offer(Evaluation(1.0, None), method.engine)
    seconds = method.engine.take_seconds()
    assert seconds["checkpoints"] > 0
    assert sum(seconds.values()) == seconds["checkpoints"]


def test_what_is_better_takes_the_memory_of_what_was_best() -> None:
    method, best = made(), Best()
    places = []
    for loss in (2.0, 1.0):
        best.offer(Evaluation(loss, None), method.engine)
        places.append([tensor.data_ptr() for tensor in best.model.masters])
    assert all(a == b for a, b in pairwise(places))


def test_a_finetune_counts_its_steps_over_all_epochs_and_seeds_each_by_itself() -> None:
    method = made(method="single", **{"finetune.epochs": 3})
    engine, total = method.engine, 3 * method.data.finetune_steps(TARGET)
    told: list[tuple[str, int, int]] = []
    watch = Hooks(progress=lambda name, step, steps, loss: told.append((name, step, steps)))
    seeds: list[int] = []
    begin_task, end_task = engine.begin_task, engine.end_task
    engine.begin_task = lambda task, seed: seeds.append(seed) or begin_task(task, seed)
    engine.end_task = lambda restore: end_task(restore=restore) and SimpleNamespace(rejected=[True, False])
    done = Finetune()
    finetune(engine, method.data, method.config, Best(), done, watch, always=True)
    assert told == [("fine-tune", step, total) for step in range(1, total + 1)]
    assert seeds == [derive_seed(0, "t", "finetune", epoch) for epoch in (1, 2, 3)]
    assert done.rejected == 3  # one in each epoch


def test_a_turn_is_as_long_as_its_task_s_share_says() -> None:
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4  # 12 batches beside 3 and 3
    config = from_dotted(
        {"target": "t", "output_dir": None, "steps_per_task": "proportional", "sample_ratio": 0.5}
    )
    data = TaskData(case.tasks(), config)
    assert [data.steps(task) for task in range(3)] == [6, 2, 2]
    for factor, expected in ((1.0, 6), (0.5, 3), (2.0, 12)):
        steps, batches = data.training(0, 1, factor)
        assert (steps, len(list(batches))) == (expected, expected)
    steps, batches = data.training(0, 2, 1.0, skip=4)
    assert (steps, len(list(batches))) == (6, 2)


def test_examples_of_a_sample_are_counted_as_they_are_drawn_and_where_it_goes_on() -> None:
    """50 examples are 4 batches, the last of 2; a turn of another length cycles through full ones."""
    tasks = [replace(task, train=TensorDataset(torch.zeros(100))) for task in CASES["linear"]().tasks()]
    config = from_dotted(
        {
            "target": "t",
            "output_dir": None,
            "steps_per_task": "proportional",
            "sample_ratio": 0.5,
            "batch_size": 16,
        }
    )
    data, resumed = TaskData(tasks, config), TaskData(tasks, config)
    _, batches = data.training(0, 1)
    for _ in range(3):
        next(batches)
    assert data.examples_seen == [48, 0, 0]
    resumed.load(data.state())
    assert [len(batch[0]) for batch in batches] == [2]
    assert [len(batch[0]) for batch in resumed.training(0, 1, skip=3)[1]] == [2]
    for each in (data, resumed):
        assert each.examples_seen == [50, 0, 0]
        assert each.steps_taken == [4, 0, 0]
        list(each.training(0, 2, factor=2.0)[1])
        assert each.examples_seen == [50 + 8 * 16, 0, 0]


@pytest.mark.parametrize(("ratio", "steps"), [(0.07, 7), (0.28, 28), (0.55, 55), (0.071, 8), (1e-4, 1)])
def test_equal_steps_are_counted_exactly(ratio: float, steps: int) -> None:
    case = CASES["linear"]()
    tasks = [replace(task, train=task.train[:1] * 100) for task in case.tasks()]
    config = from_dotted({"target": "t", "output_dir": None, "sample_ratio": ratio})
    assert [TaskData(tasks, config).steps(task) for task in range(3)] == [steps] * 3


def test_methods_on_the_target_alone_take_the_steps_of_all_or_its_own() -> None:
    sizes = {"steps_per_task": "proportional"}
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4
    for name, expected in (("single", 18), ("single_own", 3)):
        config = from_dotted({"target": "t", "output_dir": None, "method": name} | sizes)
        tasks = case.tasks()
        engine = make_engine(copy.deepcopy(case.model), tasks, TARGET, config, ALONE, "model")
        assert find(name)(engine, TaskData(tasks, config), config, Hooks()).steps() == expected


def test_the_weighting_network_is_as_it_was_published_but_for_its_zeros() -> None:
    """Linear, tanh, linear; all weights are 1 before the first step. A task without a loss counts as one of 0."""
    method: Any = made(method="aux_weighting", options={"hidden": 5})
    first, between, last = method.network
    assert isinstance(between, nn.Tanh)
    assert (first.weight.shape, last.weight.shape) == ((5, 3), (3, 5))
    assert not last.weight.any()
    assert not last.bias.any()
    assert first.weight.any()
    method.begin()
    method.collect(1)
    method.so_far.loss = [1.0, None, 3.0]
    with torch.no_grad():
        last.weight.normal_()
        expected = 3 * torch.softmax(method.network(torch.tensor([1.0, 0.0, 3.0]).double() / 3), 0)
    method.dev_gradient = lambda alpha: []  # rejected: nothing is learned
    assert method.coefficients(1) == pytest.approx(expected.tolist())


def test_a_network_is_drawn_from_the_run_s_seed_and_leaves_others_numbers_alone() -> None:
    networks = [made(method="aux_weighting", seed=seed).network[0].weight for seed in (0, 0, 1)]  # type: ignore[attr-defined]
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])
    case = made()  # another method would draw nothing
    state = torch.get_rng_state()
    find("aux_weighting")(case.engine, case.data, from_dotted({"target": "t", "method": "aux_weighting"}), Hooks())
    assert torch.equal(torch.get_rng_state(), state)


def test_avil_has_not_restarted_before_it_has() -> None:
    assert made().state()["restarted"] is False


def test_uniform_sampling_takes_as_many_steps_of_every_task_whatever_their_sizes() -> None:
    case = CASES["linear"]()
    case.train["a"] = case.train["a"] * 4
    for sampling, expected in (("uniform", [6, 6, 6]), ("proportional", [12, 3, 3])):
        options = {"target": "t", "output_dir": None, "method": "multitask", "steps_per_task": 6}
        config = from_dotted(options | {"options": {"sampling": sampling}})
        engine = make_engine(copy.deepcopy(case.model), case.tasks(), TARGET, config, ALONE, "model")
        assert Multitask(engine, TaskData(case.tasks(), config), config, Hooks()).steps() == expected


def test_a_run_that_has_not_begun_stands_at_its_start_and_keeps_its_times_when_it_is_taken_up() -> None:
    def run() -> TrainingRun:
        method = made()
        return TrainingRun(method.engine, method.config, Hooks(), lambda row: None)

    begun = run()
    assert begun.where() == {"round": 0, "phase": "start"}
    state = begun.state() | {"seconds": 100.0, "round_seconds": 10.0, "cpu_seconds": 50.0}
    taken = run()
    taken.load(state, None)
    again = taken.state()
    for name, seconds in (("seconds", 100.0), ("round_seconds", 10.0), ("cpu_seconds", 50.0)):
        assert again[name] == pytest.approx(seconds, abs=5), name


def test_a_round_keeps_the_losses_and_norms_of_its_tasks_and_tells_its_steps() -> None:
    told: list[tuple[str, int, int]] = []
    method = made(method="diw")
    method.hooks = Hooks(progress=lambda name, step, steps, loss: told.append((name, step, steps)))
    runs: list[Any] = []
    end_task = method.engine.end_task
    method.engine.end_task = lambda restore: runs.append(end_task(restore=restore)) or runs[-1]
    record = method.round(1)
    assert record.train_loss == [run.loss for run in runs]
    assert record.delta_norm == [run.delta_norm for run in runs]
    assert all(math.isfinite(loss) for loss in record.train_loss)
    assert told == [(name, step, 4) for name in ("a", "t", "b") for step in range(1, 5)]


def test_a_task_without_a_finite_loss_has_none() -> None:
    progress = RoundProgress(step=3)
    progress.end_task(TaskRun(math.nan, 2.0, [math.nan]))
    progress.end_task(TaskRun(0.5, 1.0, [0.5]))
    assert (progress.loss, progress.norm, progress.step) == ([None, 0.5], [2.0, 1.0], 0)


@pytest.mark.parametrize(("epochs", "expected"), [(0, (12, 0)), (3, (12, 9))])
def test_a_run_says_how_many_steps_it_plans(epochs: int, expected: tuple[int, int]) -> None:
    planned: list[tuple[int, int]] = []
    method = made(**{"rounds": 1, "finetune.epochs": epochs})
    TrainingRun(
        method.engine, method.config, Hooks(planned=lambda *steps: planned.append(steps)), lambda row: None
    ).run()
    assert planned == [expected]
