"""The base and the deltas of a round, by parameter: on every engine they make up the merged θ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from avil_fast.engine.ranks import ALONE
from tests.engine.ranks.cases import Case
from tests.engine.ranks.launch import on_ranks
from tests.engine.ranks.vectors import ALPHA, FullDisk, KeptRun, VectorsCase
from tests.engine.test_ranks import BF16, OFFLOAD, SMALL

ONE = {f"{dtype}": Case(0, deltas=dtype) for dtype in ("fp32", "bf16", "int8", "fp8")} | {
    "trained-head": Case(0, scale_target_head=False),
    "bf16-model": Case(0, settings=BF16),
    "layers": Case(0, granularity="layer"),
    "int8-layers": Case(0, deltas="int8", granularity="layer"),
}
TWO = {f"stage-{stage}": Case(stage) for stage in range(4)} | {
    "int8-0": Case(0, deltas="int8"),
    "int8-2": Case(2, deltas="int8"),
    "int8-3": Case(3, deltas="int8"),
    "bf16-2": Case(2, settings=BF16),
    "bf16-3": Case(3, settings=BF16),
    "small-3": Case(3, zero=SMALL),
    "small-offload-3": Case(3, zero=SMALL | OFFLOAD),
    "offload-2": Case(2, zero=OFFLOAD),
    "round-robin-2": Case(2, zero={"round_robin_gradients": True}),
    "trained-head-3": Case(3, scale_target_head=False),
    "layers-0": Case(0, granularity="layer"),
    "layers-int8-2": Case(2, deltas="int8", granularity="layer"),
    "layers-small-3": Case(3, zero=SMALL, granularity="layer"),
}
KEPT = {"stage-0": Case(0), "stage-3": Case(3, zero=SMALL)}
"""Whole runs that keep task vectors."""

pytestmark = pytest.mark.xdist_group("vectors")


@dataclass(frozen=True)
class Two:
    """What two ranks found, started once for all cases, and the folder of the runs that they made."""

    found: dict[str, list[Any]]
    folder: Path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    folder = tmp_path_factory.mktemp("vectors")
    cases: dict[str, Any] = {name: VectorsCase(case) for name, case in TWO.items()}
    for name, case in KEPT.items():
        cases |= {f"kept-{name}": KeptRun(case, folder / name), f"full-{name}": FullDisk(case, folder / name)}
        (folder / name).mkdir()
    return Two(on_ranks(2, cases, folder / "out"), folder)


def check(found: dict[str, Any], case: Case) -> None:
    assert (found["none"], found["all"]) == (False, True)
    base, deltas = found["base"], found["deltas"]
    assert base.keys() == found["after"].keys() == found["before"].keys()
    head = {"heads.t.weight", "heads.t.bias"}
    shared = {name for name in base if not name.startswith("heads.") and name != "embedding.weight"}
    scaled = head if case.scale_target_head else set()
    assert [set(delta) for delta in deltas] == [shared, shared | scaled, shared]
    # Where the model is in bf16, `theta` is the masters' cast.
    near = {"rtol": 2**-8, "atol": 1e-6} if case.bf16 else {"rtol": 0.0, "atol": 2e-7}
    for name, before in base.items():
        if name in shared | scaled:
            assert before.dtype == torch.float32
            torch.testing.assert_close(before, found["before"][name], **near)  # type: ignore[arg-type]
        merged = before.float() + sum(a * d[name] for a, d in zip(ALPHA, deltas, strict=True) if name in d)
        torch.testing.assert_close(merged, found["after"][name], **near, msg=name)  # type: ignore[arg-type]
    assert all(float(delta[name].abs().max()) > 1e-4 for delta in deltas for name in delta if "gain" not in name)


@pytest.mark.parametrize("name", ONE)
def test_base_and_deltas_make_up_the_merged_theta(name: str) -> None:
    check(VectorsCase(ONE[name])(ALONE), ONE[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", TWO)
def test_on_ranks_they_are_whole_and_the_same_on_all(name: str, two: Two) -> None:
    first, second = two.found[name]
    check(first, TWO[name])
    for one, other in zip([first["base"], *first["deltas"]], [second["base"], *second["deltas"]], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def saved(run: Path) -> dict[str, dict[str, Tensor]]:
    files = {str(path.parent.relative_to(run)): path for path in (run / "task_vectors").rglob("*.safetensors")}
    return {name: safetensors.torch.load_file(path) for name, path in files.items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs on one process."""
    folder = tmp_path_factory.mktemp("alone")
    KeptRun(Case(0), folder)(ALONE)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("run", ["whole", "taken-up"])
def test_a_run_on_ranks_keeps_what_one_process_keeps(name: str, run: str, two: Two, alone: Path) -> None:
    expected, found = saved(alone / run), saved(two.folder / name / run)
    assert set(expected) == {f"task_vectors/{model}" for model in ("base", "tasks/0", "tasks/1", "tasks/2")}
    assert found.keys() == expected.keys()
    for model, tensors in expected.items():
        assert found[model].keys() == tensors.keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(found[model][key], tensor, rtol=0, atol=2e-6, msg=f"{model} {key}")
    assert [path.name for path in (two.folder / name / run).glob("task_vectors*")] == ["task_vectors"]


def test_a_run_that_was_taken_up_keeps_the_same_bits(alone: Path) -> None:
    whole, taken_up = saved(alone / "whole"), saved(alone / "taken-up")
    assert all(torch.equal(whole[m][key], taken_up[m][key]) for m in whole for key in whole[m])


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_a_full_disk_of_the_first_rank_keeps_no_other_waiting(name: str, two: Two) -> None:
    reason = "cannot be written: No space left on device; training goes on"
    assert two.found[f"full-{name}"] == [[f"the task vectors of round 1 {reason}"], []]
    assert (two.folder / name / "run" / "summary.json").is_file()
    assert not list((two.folder / name / "run").glob("task_vectors*"))
