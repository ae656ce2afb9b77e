"""The fine-tune after the rounds, and the best model that is kept."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import avil_fast as avil
from avil_fast.config import from_dotted
from avil_fast.engine.results import Evaluation
from avil_fast.methods.best import Best
from avil_fast.methods.data import TaskData
from avil_fast.methods.finetune import Finetune, finetune
from avil_fast.methods.turn import Hooks, RoundProgress
from avil_fast.randomness import derive_seed
from tests.methods.models import CASES
from tests.methods.runs import TARGET, fit, made


def rising() -> Iterator[Evaluation]:
    loss = 0.0
    while True:
        loss += 1
        yield Evaluation(loss, None)


def test_a_finetune_on_train_and_dev_is_one_on_both_and_its_last_epoch_counts() -> None:
    case = CASES["linear"]()
    tasks = [*case.tasks()]
    options = {"rounds": 2, "keep": "best", "finetune.epochs": 3, "optimizer.lr": 0.02, "seed": 4}
    result, found = fit(case, tasks, **options, **{"finetune.data": "train+dev"})
    before, theta = fit(case, tasks, **(options | {"finetune.epochs": 0}))
    assert result.summary["finetune_epoch"] == 3
    assert result.summary["steps"]["t"] == before.summary["steps"]["t"] + 3 * 6
    assert [row["dev_loss"] for row in result.history] == [row["dev_loss"] for row in before.history]
    model = copy.deepcopy(case.model)
    nn.utils.vector_to_parameters(theta.clone(), model.parameters())
    both = avil.Task("t", [*case.train["t"], *case.dev], case.losses["t"])
    config = from_dotted({"target": "t", "output_dir": None, "seed": 4})
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    for step, batch in enumerate(TaskData([both], config).cycle(0, 18)):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 18)
        optimizer.zero_grad()
        case.losses["t"](model, batch).backward()
        optimizer.step()
    torch.testing.assert_close(found, nn.utils.parameters_to_vector(model.parameters()).detach())


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
