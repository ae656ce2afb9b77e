"""Runs as a user starts them: under deepspeed and torchrun, and what is told when they fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.engine.ranks.launch import free_port
from tests.speed import SLOW

ROOT = Path(__file__).parents[2]
TRAIN = str(ROOT / "avil_fast" / "train.py")
SHORT = [
    "rounds=2",
    "baselines=[]",
    "steps_per_task=2",
    "alpha.steps=2",
    "finetune.epochs=1",
    "tasks.test=100",
    "device=cpu",
]

pytestmark = pytest.mark.xdist_group("launch")


def environment() -> dict[str, str]:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"  # deepspeed starts "python"
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def deepspeed(*arguments: str) -> list[str]:
    launcher = ["-m", "deepspeed.launcher.runner", "--num_accelerators", "2", "--master_port", str(free_port())]
    return [sys.executable, *launcher, *arguments]


def torchrun(*arguments: str) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    return [sys.executable, *launcher, *arguments]


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def outcome(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads((folder / "summary.json").read_text(encoding="utf-8")), [json.loads(row) for row in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process that the others must agree with."""
    folder = tmp_path_factory.mktemp("alone")
    done = run([sys.executable, TRAIN, *SHORT, "output_dir=run"], folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.parametrize(
    ("launcher", "config"),
    [
        (deepspeed, "zero2.json"),
        pytest.param(torchrun, "zero3_offload.json", marks=SLOW),
        pytest.param(torchrun, None, marks=SLOW),
    ],
    ids=["deepspeed-zero2", "torchrun-zero3-offload", "torchrun"],
)
def test_a_run_on_two_ranks_is_the_run_of_one(
    launcher: Any, config: str | None, alone: Path, tmp_path: Path
) -> None:
    given = ["--deepspeed_config", str(ROOT / "configs" / config)] if config else []
    done = run(launcher(TRAIN, *given, *SHORT, "output_dir=run"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: run/report.html") == 1  # one rank speaks
    assert "memory beyond training on each of 2 ranks: " in done.stdout
    summary, rows = outcome(tmp_path / "run")
    expected, expected_rows = outcome(alone)
    assert summary["ranks"] == 2
    assert summary["memory"]["bank"] == pytest.approx(expected["memory"]["bank"] / 2, rel=0.01)
    for row, same in zip(rows, expected_rows, strict=True):
        np.testing.assert_allclose(list(row["alpha"].values()), list(same["alpha"].values()), atol=1e-5)
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path / "run", alone))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_allclose(tensor, theirs[name], atol=1e-4, err_msg=name)


def test_one_rank_needs_no_launcher(tmp_path: Path) -> None:
    given = ["--deepspeed_config", str(ROOT / "configs" / "zero2.json")]
    done = run([sys.executable, TRAIN, *given, *SHORT, "rounds=1", "output_dir=run"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "run")[0]["ranks"] == 1


FAULTY = """
import os
import re
import pathlib
import sys
import time
import torch
from torch import nn
import avil_fast as avil
from avil_fast import cli
from avil_fast.engine.process_group import joined_ranks

where = sys.argv[1]


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        if where == "hangs" and i == 60:
            time.sleep(1000)
        if where.startswith("data") and i == 60:  # on one of the ranks alone
            raise avil.AvilError("example 60 is damaged")
        if where == "bug" and i == 60:
            raise ZeroDivisionError("a bug in the data")
        return torch.ones(3) * i, 1


def loss(model, batch):
    pathlib.Path("training." + os.environ["RANK"]).touch()
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def main():
    with joined_ranks(torch.device("cpu"), timeout=5 if where in ("hangs", "stopped") else 600) as ranks:
        target = "aux" if where == "differ" and ranks.rank == 1 else "main"
        data = Data()
        if where == "content":
            data = torch.utils.data.TensorDataset(torch.ones(64, 3) * ranks.rank, torch.arange(64) % 2)
        tasks = [avil.Task(name, data, loss, dev=Data(), head=None) for name in ("main", "aux")]
        rounds = 1_000_000 if where in ("killed", "stopped") else 2
        options = {"deepspeed": "zero3.json"} if where.endswith("zero3") else {}
        avil.fit(nn.Linear(3, 2), tasks, target, rounds=rounds, **options)


cli._run(main)
"""


ZERO3 = '{"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}'

AGAIN = """
import json
import os
import re
import pickle
import sys
import torch
from torch import nn
import avil_fast as avil


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


options = {"deepspeed": sys.argv[1]} if len(sys.argv) > 1 else {}
torch.manual_seed(int(os.environ.get("RANK", "0")))  # every rank starts with a model of its own
model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
generator = torch.Generator().manual_seed(0)
data = torch.utils.data.TensorDataset(torch.randn(64, 3, generator=generator), torch.arange(64) % 2)
shuffled = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
tasks = [avil.Task(name, shuffled, loss, dev=shuffled) for name in ("main", "aux")]
for _ in range(2):
    result = avil.fit(model, tasks, "main", rounds=2, **options)
pickle.dumps(model)
total = sum(p.double().sum() for p in model.parameters()).item()
found = [total, *result.alphas.flatten().tolist(), *(p.numel() for p in model.parameters())]
sys.stdout.write("found " + json.dumps(found) + chr(10))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "config"), [(1, "zero2.json"), (2, ""), (2, "zero3.json")])
def test_fit_runs_again_and_leaves_the_same_model_on_all_ranks(ranks: int, config: str, tmp_path: Path) -> None:
    """Whatever the ranks' models and seeds were: the first rank's model, and the same batches, count."""
    script = tmp_path / "again.py"
    script.write_text(AGAIN, encoding="utf-8")
    (tmp_path / "zero2.json").write_text('{"zero_optimization": {"stage": 2}}', encoding="utf-8")
    (tmp_path / "zero3.json").write_text(ZERO3, encoding="utf-8")
    arguments = [str(script), *([config] if config else [])]
    alone = run([sys.executable, str(script)], tmp_path)
    done = run(torchrun(*arguments) if ranks == 2 else [sys.executable, *arguments], tmp_path)
    assert done.returncode == 0, done.stderr
    (expected,) = results_of(alone)
    found = results_of(done)
    assert len(found) == ranks
    assert expected[-4:] == [15, 5, 10, 2]
    for ours in found:
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def results_of(done: subprocess.CompletedProcess[str]) -> list[list[float]]:
    """What the ranks of an AGAIN script found."""
    lines = done.stdout.splitlines()
    return [json.loads(line.removeprefix("found ")) for line in lines if line.startswith("found ")]


@pytest.mark.parametrize(
    ("where", "code", "told"),
    [
        pytest.param("data", 2, "avil-fast: example 60 is damaged", marks=SLOW),
        pytest.param("data-zero3", 2, "avil-fast: example 60 is damaged", marks=SLOW),
        pytest.param("bug", 1, "ZeroDivisionError: a bug in the data", marks=SLOW),
        pytest.param("differ", 2, "what the ranks train differs", marks=SLOW),
        ("content", 2, "the data differs: \"task 'main', train: samples sum up to"),
    ],
)
def test_a_rank_that_fails_ends_all_and_the_cause_is_told_once(
    where: str, code: int, told: str, tmp_path: Path
) -> None:
    ended, err = faulty_ranks(where, tmp_path)
    assert code in ended
    assert 0 not in ended
    assert err.count(told) == 1
    # Where the first rank ends first, the others cannot know that it has told why.
    assert err.count("another rank has ended") <= 1
    assert err.count("Traceback") == (where == "bug")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_others_with_a_sentence(victim: int, tmp_path: Path) -> None:
    ended, err = faulty_ranks("killed", tmp_path, victim)  # waits a minute, no longer
    assert ended[victim] == -signal.SIGKILL
    assert ended[1 - victim] == 1
    assert err.count("another rank has ended") == 1
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_rank_that_hangs_stops_the_others_and_is_named(tmp_path: Path) -> None:
    """The one that reads example 60 of a shuffled pass is not known beforehand; what hangs, a launcher ends."""
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY, encoding="utf-8")
    done = run(torchrun(str(script), "hangs"), tmp_path)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("avil-fast: ")]
    assert len(told) == 1
    assert re.match(r"avil-fast: rank [01] has not answered for 5 seconds, so this run stops on all", told[0])


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_stands_still_stops_the_other_with_a_sentence(victim: int, tmp_path: Path) -> None:
    """Also where it is the first one, with which the place that the ranks met at stands still."""
    ended, err = faulty_ranks("stopped", tmp_path, victim, signal.SIGSTOP)
    assert ended[1 - victim] == 1
    assert err.count("has not answered for 5 seconds, so this run stops on all of them") == 1
    assert victim == 0 or "avil-fast: rank 1 has not" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_ranks_that_do_not_meet_say_so(tmp_path: Path) -> None:
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY, encoding="utf-8")
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    place |= {"RANK": "0", "LOCAL_RANK": "0"}
    command = [sys.executable, str(script), "stopped"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment() | place, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("avil-fast: ")]
    assert told == [
        "avil-fast: not all of the 2 ranks have met within 5 seconds; look for one that did not start, or set "
        "rank_timeout higher"
    ]


def faulty_ranks(
    where: str, folder: Path, victim: int | None = None, number: int = signal.SIGKILL
) -> tuple[list[int], str]:
    """Exit codes of two ranks without a launcher that would end them, and what both wrote to stderr."""
    script = folder / "faulty.py"
    script.write_text(FAULTY, encoding="utf-8")
    (folder / "zero3.json").write_text(ZERO3, encoding="utf-8")
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), where],
            cwd=folder,
            env=environment() | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        if victim is not None:
            wait_for_training(folder)
            ranks[victim].send_signal(number)
        if number == signal.SIGSTOP and victim is not None:
            ranks[1 - victim].wait(60)
            ranks[victim].kill()
        said = [rank.communicate(timeout=60)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    return [rank.returncode for rank in ranks], "".join(said)


def wait_for_training(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob("training.*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


LEAVING = """
import atexit, os, time
import torch
from avil_fast.engine.process_group import joined_ranks
with joined_ranks(torch.device("cpu"), timeout=600) as ranks:
    ranks.max(0)
if os.environ["RANK"] == "1":
    atexit.register(time.sleep, 2.5)  # called before this rank leaves the others
"""


def test_the_first_rank_leaves_last() -> None:
    """The others speak to it to their end: it holds the place where they met."""
    places = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LEAVING],
            cwd=ROOT,
            env=environment() | places | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    assert started[0].wait(60) == 0
    assert started[1].wait(2) == 0  # but for Python's own end, it has ended


MET_ELSEWHERE = """
import torch
import torch.distributed as dist
from avil_fast.engine.process_group import joined_ranks
dist.init_process_group("cpu:gloo")
with joined_ranks(torch.device("cpu"), 60) as ranks:
    print(dist.get_backend(), ranks.size, ranks.max(ranks.rank, 5 - ranks.rank))
dist.destroy_process_group()
"""


def test_ranks_that_met_elsewhere_with_another_backend_tell_each_other_numbers() -> None:
    """As accelerate has them meet on GPUs, with nccl; here a list of backends, not named "gloo" either."""
    done = run(torchrun("--no-python", sys.executable, "-c", MET_ELSEWHERE), ROOT)
    assert done.returncode == 0, done.stderr
    told = re.findall(r"(\S+) 2 \[1, 5\]", done.stdout)
    assert len(told) == 2, done.stdout
    assert "gloo" not in told
