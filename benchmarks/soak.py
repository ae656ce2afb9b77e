"""`python -m benchmarks.soak`: many rounds in one run, on one rank and on two: is all as it was at the start?

The digits, with deltas in every round and a checkpoint every six seconds. Memory, open files and threads
of all processes of the run are looked at once a second; of each the median of the tenth of rounds after a warm-up
of a tenth is set beside that of the last tenth. The seconds of a round are those of metrics.jsonl. A machine that
is shared changes its speed from minute to minute, so those of the last rounds are set beside those of a second
run, which begins when most of the first are done and goes on at the same time.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import command

PARTS = 10
WARM_UP = 10
"""Rounds of the second run that are not counted."""
SETTINGS = (
    "alpha.rounds=null",
    "steps_per_task=4",
    "finetune.epochs=0",
    "keep=last",
    "baselines=[]",
    "checkpoints.minutes=0.1",  # 0 would measure the manifest, which holds a line for every round
    "log.tensorboard=false",
)


@dataclass(frozen=True)
class Sample:
    """All processes of a run together."""

    rounds: int
    """That are done."""
    resident: int
    """Bytes; memory that ranks share counts for each."""
    files: int
    threads: int
    checkpoints: int


def main() -> None:
    parser = command.parser("soak", __doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--young", type=float, default=0.7, help="part of the rounds before the second run")
    arguments = parser.parse_args()
    runs = [soak(arguments.rounds, ranks, arguments.young) for ranks in arguments.ranks]
    for run in runs:
        print(json.dumps(run))
    command.write(arguments.json, {"settings": SETTINGS, "runs": runs})


def soak(rounds: int, ranks: int, young_after: float) -> dict[str, Any]:
    """A run of so many rounds; what it took at its beginning, or a young run at the same time, and at its end."""
    with tempfile.TemporaryDirectory() as folder:
        old, young = Path(folder) / "old", Path(folder) / "young"
        process = _start(old, rounds, ranks)
        samples: list[Sample] = []
        second, both = None, slice(0, 0)
        for sample in _watch(process.pid, old):
            samples.append(sample)
            if second is None and sample.rounds >= young_after * rounds:
                second = _start(young, rounds, ranks)
            if not both.start and len(_seconds(young)) >= WARM_UP:
                both = slice(len(_seconds(old)), rounds)
        alike = slice(WARM_UP, len(_seconds(young)))
        if second is not None:
            second.terminate()
            second.wait()
        if process.wait() != 0:
            sys.exit(f"the run of {ranks} ranks ended with {process.returncode}")
        of_old = _seconds(old)
        seconds = _seconds(young)[alike], of_old[both]
    part = rounds // PARTS
    found: dict[str, Any] = {"ranks": ranks, "rounds": len(of_old), "samples": len(samples)}
    for name in ("resident", "files", "threads", "checkpoints"):
        of_rounds = [
            [getattr(s, name) for s in samples if of.start <= s.rounds < of.stop]
            for of in (slice(part, 2 * part), slice(rounds - part, rounds))
        ]
        found[name] = [statistics.median(values) if values else None for values in of_rounds]
    found["rounds_at_the_same_time"] = [len(values) for values in seconds]
    found["seconds_of_round"] = [statistics.median(values) if values else None for values in seconds]
    return found


def _start(output: Path, rounds: int, ranks: int) -> subprocess.Popen[bytes]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    script = Path(__file__).parents[1] / "avil_fast" / "train.py"
    settings = [*SETTINGS, f"rounds={rounds}", f"output_dir={output}"]
    return subprocess.Popen([sys.executable, *launcher, str(script), *settings])


def _seconds(output: Path) -> list[float]:
    """Of the rounds that are done."""
    metrics = output / "metrics.jsonl"
    if not metrics.exists():
        return []
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line)["seconds"]["total"] for line in lines if line.endswith("\n")]


def _watch(pid: int, output: Path) -> Iterator[Sample]:
    """Samples, as long as the process lives."""
    checkpoints = output / "checkpoints"
    while True:
        time.sleep(1.0)
        try:
            root = psutil.Process(pid)
            if root.status() == psutil.STATUS_ZOMBIE:
                return
            alive = [root, *root.children(recursive=True)]
            resident = sum(process.memory_info().rss for process in alive)
            files = sum(process.num_fds() for process in alive)
            threads = sum(process.num_threads() for process in alive)
        except psutil.NoSuchProcess:
            continue
        done = len(_seconds(output))
        kept = len(list(checkpoints.iterdir())) if checkpoints.exists() else 0
        yield Sample(done, resident, files, threads, kept)


if __name__ == "__main__":
    main()
