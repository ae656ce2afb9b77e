"""`python -m benchmarks.soak`: many rounds in one run, on one rank and on two: is all as it was at the start?

The digits, with deltas in every round and a checkpoint every six seconds. Memory, open files and threads
of all processes of the run are looked at once a second, and the seconds of a round are those of metrics.jsonl. Of
each the median of the tenth of rounds after a warm-up of a tenth is set beside that of the last tenth.
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
    arguments = parser.parse_args()
    runs = [soak(arguments.rounds, ranks) for ranks in arguments.ranks]
    for run in runs:
        print(json.dumps(run))
    command.write(arguments.json, {"settings": SETTINGS, "runs": runs})


def soak(rounds: int, ranks: int) -> dict[str, Any]:
    """A run of so many rounds; what it took at its beginning and at its end."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    script = Path(__file__).parents[1] / "avil_fast" / "train.py"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        settings = [*SETTINGS, f"rounds={rounds}", f"output_dir={output}"]
        process = subprocess.Popen([sys.executable, *launcher, str(script), *settings])
        samples = list(_watch(process.pid, output))
        if process.wait() != 0:
            sys.exit(f"the run of {ranks} ranks ended with {process.returncode}")
        lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = [json.loads(line)["seconds"]["total"] for line in lines]
    part = rounds // PARTS
    begin, end = slice(part, 2 * part), slice(rounds - part, rounds)
    found: dict[str, Any] = {"ranks": ranks, "rounds": len(lines), "samples": len(samples)}
    for name in ("resident", "files", "threads", "checkpoints"):
        of_rounds = [[getattr(s, name) for s in samples if of.start <= s.rounds < of.stop] for of in (begin, end)]
        found[name] = [statistics.median(values) if values else None for values in of_rounds]
    found["seconds_of_round"] = [statistics.median(seconds[of]) for of in (begin, end)]
    return found


def _watch(pid: int, output: Path) -> Iterator[Sample]:
    """Samples, as long as the process lives."""
    metrics, checkpoints = output / "metrics.jsonl", output / "checkpoints"
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
        done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        kept = len(list(checkpoints.iterdir())) if checkpoints.exists() else 0
        yield Sample(done, resident, files, threads, kept)


if __name__ == "__main__":
    main()
