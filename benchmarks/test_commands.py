"""The commands run to their end, at a size that shows nothing of speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.speed import slow_but

SMALL = {
    "checkpoints": "--width 64 --layers 2 --tasks 2 --repeats 1",
    "kernels": "--numel 65536 --repeats 2 --n 2 3 --against add_ mv",
    "trainer": "--batch 2 --length 8 --steps 2 --repeats 1 --width 16 --layers 1 --heads 2 --vocabulary 64",
    "streamed": "--device cpu --numel 200000 --repeats 2 --n 2 3 --window 300000",
    "soak": "--rounds 150 --ranks 1 --young 0.05",
    "tiles": "--device cpu --numel 512 --repeats 1 --op weighted_sum_ --codec int8 --n 2",
    "endtoend": "--device cpu --tasks 2 --steps 2 --batch 2 --sequence 8 --vocabulary 64 --width 64 --layers 1",
}


@pytest.mark.parametrize("name", slow_but("checkpoints", "streamed", "endtoend", of=SMALL))
def test_a_command_runs_and_writes_its_figures(name: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name].split(), "--json", str(path)]
    # A test before this one may have met other ranks in this process: a benchmark is on its own.
    alone = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    if name == "tiles":
        alone |= {"AVIL_BACKEND": "triton", "TRITON_INTERPRET": "1"}
    root = Path(__file__).parents[1]
    subprocess.run(command, check=True, cwd=root, env=alone, stdout=subprocess.DEVNULL, timeout=120)
    figures = json.loads(path.read_text())
    if name == "tiles":
        assert len(figures["rows"]) == len({row["config"] for row in figures["rows"]}) == 4 * 4 * 3
    elif "rows" in figures:
        assert {(row["op"], row["codec"], row["n"]) for row in figures["rows"]} >= {("delta_dots", "int8", 3)}
        assert all(row["gbps"] > 0 and row["percent_of_roof"] > 0 for row in figures["rows"])
    elif name == "trainer":
        assert figures["ratio"] == figures["ratios"][0] > 0
    elif name == "soak":
        (run,) = figures["runs"]
        assert run["rounds"] == 150
        assert min(run["rounds_at_the_same_time"]) > 0
        assert run["samples"] > 0
        assert min(run["seconds_of_round"]) > 0
    elif name == "checkpoints":
        assert figures["bytes_of_files"] > sum(figures["bytes"].values()) > 0
    else:
        assert len(figures["avil"]["rounds"]) == 2
        assert figures["delta_ops_percent"] > 0
