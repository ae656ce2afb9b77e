"""Saved on some ranks and a ZeRO stage, a run goes on on any others, in the middle of a round too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.engine.ranks.cases import Case
from tests.engine.ranks.launch import on_ranks
from tests.engine.ranks.resume import EVERY_POINT, SavedRun, TakenUp, fit, points
from tests.engine.test_ranks import SMALL, difference

SAVED = {
    "zero2": Case(2),
    "zero3": Case(3, {"moments": "reset"}, zero=SMALL),
    "round-robin": Case(2, {"name": "sgd", "momentum": 0.9}, zero={"round_robin_gradients": True}),
    "data-parallel": Case(0),
    "layers": Case(2, granularity="layer"),
}
"""On two ranks; and "local" on one."""

# (the run, the ZeRO stage that it goes on with), by the number of ranks
ELSEWHERE = {
    1: [("zero2", 2), ("zero3", 3)],
    2: [("zero2", 3), ("local", 2)],
    3: [("zero2", 2), ("zero2", 3), ("round-robin", 1), ("data-parallel", 0)],
    4: [("zero2", 2), ("zero3", 3), ("layers", 3)],
}
STEP = 2
"""Every other phase."""

pytestmark = [pytest.mark.xdist_group("resume on ranks"), pytest.mark.slow]


def case_of(name: str, stage: int) -> Case:
    """How the run `name` trains, on another stage and with DeepSpeed's own settings."""
    return replace(SAVED.get(name, Case()), stage=stage, zero={})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs that were saved."""
    folder = tmp_path_factory.mktemp("runs")
    on_ranks(2, {name: SavedRun(case, folder / name) for name, case in SAVED.items()}, folder / "out")
    fit(Case(0), folder, output_dir=folder / "local", **EVERY_POINT)
    return folder


@pytest.fixture(scope="module")
def undisturbed(runs: Path) -> Callable[[str], dict[str, Any]]:
    """What a run found that one process made without a stop."""
    return cache(lambda name: fit(case_of(name, 0), runs))


@pytest.fixture(scope="module")
def elsewhere(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, list[Any]]]:
    """What so many ranks made of the rest of their runs."""

    def taken_up(ranks: int) -> dict[str, list[Any]]:
        cases = {
            f"{name}-{stage}": TakenUp(case_of(name, stage), runs / name, STEP) for name, stage in ELSEWHERE[ranks]
        }
        if ranks == 2:
            cases |= {name: TakenUp(case, runs / name) for name, case in SAVED.items()}
        return on_ranks(ranks, cases, tmp_path_factory.mktemp("taken") / "out")

    return cache(taken_up)


@pytest.mark.parametrize("name", SAVED)
def test_on_the_same_ranks_a_run_comes_to_the_same_bits(name: str, elsewhere: Any) -> None:
    ranks = elsewhere(2)[name]
    first = ranks[0][-1]
    for of_rank in ranks:
        for found in of_rank:
            for key, value in first.items():
                assert difference(found[key], value) == 0, key


@pytest.mark.parametrize(
    ("ranks", "name", "stage"), [(r, *case) for r, cases in ELSEWHERE.items() for case in cases]
)
def test_on_other_ranks_a_run_comes_to_the_same(
    ranks: int, name: str, stage: int, elsewhere: Any, undisturbed: Any
) -> None:
    expected = undisturbed(name)
    for of_rank in elsewhere(ranks)[f"{name}-{stage}"]:
        for found in of_rank:
            for key, value in expected.items():
                assert difference(found[key], value) <= 1e-5, key


@pytest.mark.parametrize("name", SAVED)
def test_one_process_goes_on_with_what_ranks_began(name: str, runs: Path, undisturbed: Any) -> None:
    expected = undisturbed(name)
    for path in points(runs / name)[::STEP]:
        found = fit(case_of(name, 0), runs, resume=path)
        for key, value in expected.items():
            assert difference(found[key], value) <= 1e-5, f"{key} from {path.name}"
