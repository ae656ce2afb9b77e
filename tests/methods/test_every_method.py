"""What holds for every method: its budget, the same bits again, its options, its packages."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import avil_fast as avil
from avil_fast.config import from_dotted, load
from avil_fast.engine.parameters import flatten
from avil_fast.errors import AvilError
from avil_fast.methods import METHODS, find
from avil_fast.run.launch import baseline_methods, baseline_of
from tests.methods.models import CASES
from tests.methods.runs import fit, made, tasks_with_test

OTHERS = sorted(set(METHODS) - {"avil"})


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("name", CASES)
def test_every_method_takes_its_budget_and_gives_the_same_bits_again(name: str, method: str) -> None:
    case = CASES[name]()
    options = {"method": method, "rounds": 3, "steps_per_task": 4, "optimizer.name": "adamw"}
    result, first = fit(case, **options)
    again, second = fit(case, **options)
    assert torch.equal(first, second)
    assert again.alphas.tolist() == result.alphas.tolist()
    taken = result.summary["steps"]
    assert sum(taken.values()) == (12 if method == "single_own" else 36)
    assert (taken["a"] == taken["b"] == 0) == method.startswith("single")
    assert not torch.equal(first, nn.utils.parameters_to_vector(case.model.parameters()))


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("forkmerge", {"grid": 0}, r"options\.grid is 0, but "),
        ("forkmerge", {"gird": 3}, r"options\.gird is no setting of method forkmerge, which has options\.grid"),
        ("avil", {"grid": 3}, r"options\.grid is no setting of method avil, which has none"),
        ("multitask", {"sampling": "some"}, r"options\.sampling is 'some', but "),
    ],
)
def test_a_wrong_option_is_one_sentence(method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(AvilError, match=said):
        from_dotted({"method": method, "options": options})
    (name,) = options
    with pytest.raises(AvilError, match=said):
        from_dotted({"method": method, f"options.{name}": options[name]})


def test_a_method_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(AvilError, match=r"method is 'forkmerg', but the methods are .*; did you mean forkmerge\?"):
        from_dotted({"method": "forkmerg"})


def test_a_baseline_has_no_options_of_the_run_s_method() -> None:
    config = load(None, ["method=multitask", "options.sampling=proportional"])
    assert baseline_of(config, "single").options == {}


def test_the_baseline_has_the_data_of_the_run() -> None:
    case = CASES["linear"]()

    def methods(tasks: list[avil.Task], *overrides: str) -> list[str]:
        return baseline_methods(load(None, ["rounds=6", *overrides]), tasks, 1)

    assert methods(tasks_with_test(case)) == ["single_all"]
    assert methods(tasks_with_test(case), "alpha.rounds=null") == ["single"]
    assert methods(tasks_with_test(case), "alpha.rounds=null", "finetune.data=train+dev") == ["single_all"]
    assert methods(tasks_with_test(case), "method=single") == []
    assert methods(tasks_with_test(case), "baselines=[diw, avil]") == ["diw"]
    assert methods(case.tasks()) == ["single"]


def test_a_package_that_is_missing_is_told_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find("upgrad"), "packages", ("torch", "no_such_package"))
    case = CASES["linear"]()
    with pytest.raises(AvilError, match="upgrad needs no_such_package, which is missing; install"):
        fit(case, case.tasks(), method="upgrad", rounds=1)


@pytest.mark.parametrize(("method", "kept"), [("avil", True), ("single", False), ("multitask", False)])
def test_a_method_without_deltas_has_no_bank(method: str, kept: bool) -> None:
    engine = made(method=method).engine
    assert (engine.memory().bank > 0) == kept
    assert not engine.has_deltas


@pytest.mark.parametrize(
    ("dtypes", "named"),
    [
        ((torch.float16, torch.float16), "float16"),
        ((torch.float32, torch.float64), "float32, float64"),
        ((torch.float16, torch.bfloat16), "bfloat16, float16"),
    ],
)
def test_dtypes_that_fail_in_the_first_merge_are_refused(dtypes: tuple[torch.dtype, ...], named: str) -> None:
    model = nn.Sequential(*(nn.Linear(2, 2).to(dtype) for dtype in dtypes))
    with pytest.raises(AvilError, match=rf"trainable parameters are of {named}; convert it with \.float\(\)"):
        flatten(model, [])
