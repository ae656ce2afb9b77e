"""Starts ranks as a launcher would, and collects what they found."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.heap import MMAPPED

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(ranks: int, rank: int, port: int, device: str = "cpu") -> dict[str, str]:
    """What a launcher sets for a rank."""
    return os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": device,
        "MALLOC_MMAP_THRESHOLD_": str(MMAPPED),
    }


def on_ranks(
    ranks: int, cases: dict[str, Any], folder: Path, timeout: float = 300, device: str = "cpu"
) -> dict[str, list[Any]]:
    """What each rank found, by the case's name; one start of the ranks for all cases."""
    folder.mkdir(parents=True)
    jobs = folder / "jobs"
    jobs.write_bytes(pickle.dumps(cases))
    command = [sys.executable, "-m", "tests.engine.ranks.worker", str(jobs), str(folder), device]
    port = free_port()
    logs = [(folder / f"log.{rank}").open("w") for rank in range(ranks)]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(ranks, rank, port, device),
            stdout=logs[rank],
            stderr=subprocess.STDOUT,
        )
        for rank in range(ranks)
    ]
    try:
        codes = [process.wait(timeout) for process in started]
    except subprocess.TimeoutExpired:
        codes = []
    finally:
        for process, log in zip(started, logs, strict=True):
            process.kill()
            log.close()
    late = [name for name in cases if not (folder / f"{name}.0").is_file()]
    assert codes, f"{len(late)} of {len(cases)} cases were not done after {timeout} s, {late[0]} the first of them"
    text = "\n".join((folder / f"log.{rank}").read_text()[-3000:] for rank in range(ranks))
    assert codes == [0] * ranks, text
    return {
        name: [pickle.loads((folder / f"{name}.{rank}").read_bytes()) for rank in range(ranks)] for name in cases
    }
