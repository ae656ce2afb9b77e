"""What is not finite is rejected and counted, and ends the run only where it goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console as RichConsole
from torch import Tensor, nn

import avil_fast as avil
from avil_fast.console import Console
from avil_fast.engine.losses import Losses
from avil_fast.engine.results import Evaluation
from avil_fast.errors import Diverged
from avil_fast.methods.forkmerge import search
from avil_fast.methods.scalar_rules import reweighted
from tests.methods.models import Case, linear

PLAIN = {"finetune.epochs": 0, "optimizer.name": "sgd", "optimizer.lr": 0.05, "alpha.target_head": "trained"}


def poisoned(case: Case, task: str, poison: Callable[[int], bool], training: bool = True) -> list[avil.Task]:
    """The tasks, with NaN for the calls of a task's loss that `poison` names, counted from 1 in that mode."""
    calls = 0
    clean = case.losses[task]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += model.training == training
        bad = model.training == training and poison(calls)
        return clean(model, batch) * (float("nan") if bad else 1.0)

    case.losses[task] = loss
    return case.tasks()


def fit(case: Case, tasks: list[avil.Task], folder: Path | None = None, **options: Any) -> avil.Result:
    return avil.fit(case.model, tasks, "t", output_dir=folder, **PLAIN | options)


def test_rejected_steps_are_counted_by_task_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = linear()
    options = {"rounds": 2, "steps_per_task": 3, "finetune.epochs": 1}
    tasks = poisoned(case, "t", lambda call: call in (2, 4, 5, 7))  # 7: in the fine-tune
    result = fit(case, tasks, tmp_path / "run", **options)
    assert [row["rejected_steps"] for row in result.history] == [
        {"a": 0, "t": 1, "b": 0},
        {"a": 0, "t": 2, "b": 0},
    ]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["rejected_steps"] == {"a": 0, "t": 4, "b": 0}
    assert summary["rejected_alpha_steps"] == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["rejected_steps"]["t"] for line in lines] == [1, 2]
    told = "Steps rejected, as loss or gradient was not finite: 4 of t."
    assert told in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    console = Console()
    console._rich = RichConsole(width=200)
    console.result(result, None)
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(("method", "round_"), [("avil", 2), ("multitask", 2), ("single", 2), ("forkmerge", 1)])
def test_the_run_stops_after_so_many_of_a_task_in_a_row(method: str, round_: int) -> None:
    """Over turns, and whatever other tasks do between them."""
    case = linear()
    tasks = poisoned(case, "t", lambda call: True)
    with pytest.raises(Diverged, match=rf"^task 't': its last 4 steps up to step \d+ of round {round_} were"):
        fit(
            case,
            tasks,
            method=method,
            rounds=3,
            steps_per_task=1 if method == "single" else 2,
            max_rejected_steps=4,
        )


def test_the_run_stops_in_the_fine_tune_too() -> None:
    case = linear()
    tasks = poisoned(case, "t", lambda call: call > 3)
    with pytest.raises(
        Diverged, match=r"task 't': its last 2 steps up to step 2 of epoch 1 of the fine-tune were"
    ):
        fit(case, tasks, rounds=1, steps_per_task=3, max_rejected_steps=2, **{"finetune.epochs": 2})


def test_alpha_goes_back_to_the_last_point_that_is_finite() -> None:
    options = {"rounds": 1, "steps_per_task": 2}
    case = linear()
    calm = fit(case, case.tasks(), **options, **{"alpha.steps": 1})
    case = linear()
    batches = len(case.dev)
    tasks = poisoned(case, "t", lambda call: 2 * batches < call <= 3 * batches, training=False)
    result = fit(case, tasks, **options, **{"alpha.steps": 10})
    row, expected = result.history[0], calm.history[0]
    assert row["rejected_alpha_steps"] == result.summary["rejected_alpha_steps"] == 1
    for key in ("alpha", "alpha_path", "dev_loss"):
        assert row[key] == expected[key], key
    assert set(row["benefit"].values()) != {None}


def test_where_the_point_of_the_benefit_is_not_finite_there_is_no_benefit() -> None:
    case = linear()
    batches = len(case.dev)
    tasks = poisoned(case, "t", lambda call: batches < call <= 2 * batches, training=False)
    row = fit(case, tasks, rounds=1, steps_per_task=2, **{"alpha.steps": 1}).history[0]
    assert set(row["benefit"].values()) == {None}
    assert row["rejected_alpha_steps"] == 0


def test_an_alpha_phase_without_a_finite_point_ends_the_run() -> None:
    case = linear()
    tasks = poisoned(case, "t", lambda call: True, training=False)
    with pytest.raises(Diverged, match=r"target 't': its dev loss is nan .* at step 1 of the α phase of round 1"):
        fit(case, tasks, rounds=1, steps_per_task=2)


def test_a_mean_loss_is_of_the_steps_that_were_taken() -> None:
    case = linear()
    tasks = poisoned(case, "t", lambda call: call % 2 == 0)
    result = fit(case, tasks, rounds=1, steps_per_task=4, method="multitask")
    assert torch.isfinite(torch.tensor(result.history[0]["train_loss"]["t"]))
    assert result.history[0]["rejected_steps"] == {"a": 0, "t": 2, "b": 0}


def test_a_turn_ends_with_a_look_where_no_step_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, whose steps nobody waits for."""
    begin = Losses.begin

    def seldom(self: Losses, *losses: Any) -> None:
        begin(self, *losses)
        self._every = 1000

    monkeypatch.setattr(Losses, "begin", seldom)
    case = linear()
    with pytest.raises(Diverged, match=r"^task 't': its last 3 steps up to step 3 of round 1 were"):
        fit(case, poisoned(case, "t", lambda call: True), rounds=1, steps_per_task=3, max_rejected_steps=2)


def test_steps_in_a_row_are_counted_on_where_a_run_goes_on(tmp_path: Path) -> None:
    """Four in a row are two of each round; the newest checkpoint is of the third."""
    said = []
    for resume in (None, "auto"):
        case = linear()
        tasks = poisoned(case, "t", lambda call: True)
        often = {"checkpoints.minutes": 0, "checkpoints.background": False}
        with pytest.raises(Diverged, match="its last 4 steps") as caught:
            fit(
                case,
                tasks,
                tmp_path / "run",
                resume=resume,
                rounds=3,
                steps_per_task=2,
                max_rejected_steps=4,
                **often,
            )
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("method", ["tartan", "aux_weighting"])
def test_weights_do_not_learn_by_a_gradient_that_is_not_finite(method: str) -> None:
    case = linear()
    tasks = poisoned(case, "t", lambda call: call <= len(case.dev), training=False)
    first, second = fit(case, tasks, rounds=2, steps_per_task=2, method=method).history
    assert (first["rejected_alpha_steps"], second["rejected_alpha_steps"]) == (1, 0)
    assert set(first["weight"].values()) == {1.0}
    assert len(set(second["weight"].values())) == 3


def test_a_delta_after_which_the_dev_loss_is_nan_gets_no_weight() -> None:
    case = linear()
    tasks = poisoned(case, "t", lambda call: call <= len(case.dev), training=False)  # with the first task's delta
    (row,) = fit(case, tasks, rounds=1, steps_per_task=2, method="diw").history
    assert row["alpha"]["a"] == 0.0
    assert sum(row["alpha"].values()) == pytest.approx(3.0)


def test_a_branch_whose_dev_loss_is_nan_is_not_the_first_of_a_merge() -> None:
    def score(alpha: Sequence[float]) -> Evaluation:
        return Evaluation(float("nan") if alpha[0] else 1.0 - alpha[2], None)

    assert search(score, 3, grid=5) == [0.0, 0.0, 1.0]


def test_where_no_delta_leaves_a_finite_dev_loss_weights_stay() -> None:
    assert reweighted([0.5, 1.5], [-math.inf, -math.inf]) == [0.5, 1.5]
    assert reweighted([0.5, 1.5], [-math.inf, -3.0]) == [0.0, 2.0]


@pytest.mark.parametrize("higher", [True, False])
def test_nan_is_worse_than_any_number(higher: bool) -> None:
    def found(loss: float, metric: float | None = None) -> Evaluation:
        return Evaluation(loss, metric, higher)

    nan = float("nan")
    assert found(9.0).better_than(found(nan))
    assert not found(nan).better_than(found(9.0))
    assert not found(nan).better_than(found(nan))
    assert found(9.0, 0.5).better_than(found(0.0, nan))
    assert not found(0.0, nan).better_than(found(9.0, 0.5))
    assert found(1.0, nan).better_than(found(2.0, nan))
    assert found(0.0, 0.7).better_than(found(0.0, 0.6)) == higher
    assert found(0.0, 0.6).better_than(found(0.0, 0.7)) != higher
    assert found(0.0, 0.6).better_than(found(1.0, None))  # by the loss, where one has no metric
