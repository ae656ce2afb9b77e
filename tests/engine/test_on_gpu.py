"""Runs on a GPU find what they find on the CPU: of one process, under ZeRO, and taken up again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from avil_fast.engine.ranks import Ranks
from avil_fast.run.launch import train
from tests.engine.ranks.cases import Case
from tests.engine.ranks.launch import free_port, on_ranks
from tests.engine.ranks.resume import EVERY_POINT, fit, points
from tests.engine.test_launch import ROOT, SHORT, TRAIN
from tests.engine.test_ranks import SMALL, difference

TOLERANCE = 1e-3
"""Of α and of parameters after three rounds: a GPU adds up in another order."""

ON_ONE_PROCESS = {
    "fp32": (Case(0), {}),
    "bf16": (Case(0, deltas="bf16"), {}),
    "int8": (Case(0, deltas="int8"), {}),
    "fp8": (Case(0, deltas="fp8"), {}),
    "streamed": (Case(0), {"deltas.device": "cpu"}),
    "accumulated": (Case(0, parts=2), {}),
    "layers": (Case(0, granularity="layer"), {}),
    "one set of moments": (Case(0, {"moments": "reset"}), {}),
    "restart": (Case(0), {"alpha.rounds": 1, "alpha.settled": "restart"}),
}
UNDER_ZERO = {
    "zero1": Case(1),
    "zero2": Case(2),
    "zero3": Case(3, zero=SMALL),
    "layers3": Case(3, granularity="layer"),
}

pytestmark = [pytest.mark.gpu, pytest.mark.xdist_group("runs on a gpu")]


@dataclass(frozen=True)
class OnGpu:
    """A whole run on the GPU, by the ranks that were started."""

    case: Case
    where: Path
    """Folder for DeepSpeed's file."""

    def __call__(self, ranks: Ranks) -> dict[str, Any]:
        return fit(self.case, self.where, device="cuda")


def assert_close(found: dict[str, Any], expected: dict[str, Any], tolerance: float = TOLERANCE) -> None:
    for key, value in expected.items():
        assert difference(found[key], value) <= tolerance, key


@pytest.mark.parametrize("name", ON_ONE_PROCESS)
def test_one_process(name: str, tmp_path: Path) -> None:
    case, more = ON_ONE_PROCESS[name]
    on_cpu, on_gpu = (fit(case, tmp_path, device=device, **more) for device in ("cpu", "cuda"))
    assert_close(on_gpu, on_cpu)


def test_a_streamed_bank_comes_to_the_same(tmp_path: Path) -> None:
    kept, streamed = (
        fit(Case(0), tmp_path, device="cuda", **{"deltas.device": where}) for where in ("model", "cpu")
    )
    assert_close(streamed, kept, 1e-6)


@pytest.fixture(scope="module")
def under_zero(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one rank under ZeRO found, by case."""
    folder = tmp_path_factory.mktemp("zero")
    cases = {name: OnGpu(case, folder) for name, case in UNDER_ZERO.items()}
    return {name: ranks[0] for name, ranks in on_ranks(1, cases, folder / "out", device="cuda").items()}


@pytest.mark.parametrize("name", UNDER_ZERO)
def test_under_zero(name: str, under_zero: dict[str, Any], tmp_path: Path) -> None:
    local = Case(0, granularity=UNDER_ZERO[name].granularity)
    assert_close(under_zero[name], fit(local, tmp_path, device="cpu"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on a device, saved at every point: its folder, and what it found."""

    @cache
    def run(device: str) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("runs") / device
        return folder, fit(Case(0), folder.parent, device=device, output_dir=folder, **EVERY_POINT)

    return run


@pytest.mark.parametrize(("began", "goes_on"), [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_is_taken_up_on_either_device(began: str, goes_on: str, saved: Any) -> None:
    folder, expected = saved(began)
    for point in points(folder):
        found = fit(Case(0), folder.parent, device=goes_on, resume=point)
        assert_close(found, expected, 1e-5 if began == goes_on else TOLERANCE)


@pytest.mark.parametrize("config", ["zero2.json", "zero3.json", "zero3_offload.json"])
def test_a_run_by_the_launcher(config: str, tmp_path: Path) -> None:
    given = ["--deepspeed_config", str(ROOT / "configs" / config), *SHORT, "device=cuda", "output_dir=run"]
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "1"]
    command = [*launcher, "--master_port", str(free_port()), TRAIN, *given]
    environment = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    expected = train(None, [*SHORT, "device=cpu", f"output_dir={tmp_path / 'on_cpu'}"], quiet=True)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    for row, same in zip(rows, expected.history, strict=True):
        assert json.loads(row)["alpha"] == pytest.approx(same["alpha"], abs=1e-2)
