"""What `avil-fast plan` says about memory against what runs take: `python -m benchmarks.plan`.

Every rank is a process of its own that builds the run, trains a step of every task, takes an α step and evaluates,
while malloc's account is read after each of torch's operations. What was there before the model does not count.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from avil_fast.config import Config, load
from avil_fast.engine.base import Engine
from avil_fast.engine.factory import make_engine, zero_of
from avil_fast.engine.process_group import joined_ranks
from avil_fast.engine.ranks import Ranks
from avil_fast.methods.data import TaskData
from avil_fast.planning.describe import planned_run
from avil_fast.planning.memory import PASSES, parts
from avil_fast.run.launch import start_zero
from avil_fast.tasks.from_config import build
from avil_fast.tasks.shapes.base import Pass
from avil_fast.tasks.task import Task
from benchmarks import command, heap

RUNS = {
    "digits, 1 process": ("configs/digits.yaml", 1, None),
    "digits, 2 ranks": ("configs/digits.yaml", 2, None),
    "digits, 2 ranks, ZeRO 2": ("configs/digits.yaml", 2, "configs/zero2.json"),
    "MiniLM, 1 process": ("configs/sentiment.yaml", 1, None),
    "MiniLM, 2 ranks, ZeRO 2": ("configs/sentiment.yaml", 2, "configs/zero2.json"),
    "MiniLM, 2 ranks, ZeRO 3": ("configs/sentiment.yaml", 2, "configs/zero3.json"),
}
ROOT = Path(__file__).parents[1]


def planned(config: Config, ranks: int) -> dict[str, float]:
    """Bytes on a rank: what stays, the deltas, and the most in every kind of pass."""
    found = parts(planned_run(config, ranks, on_gpu=False))
    deltas = sum(part.nbytes for part in found if part.name in ("base", "bank"))
    stays = sum(part.nbytes for part in found if part.at_once)
    passes = {part.name: stays + part.nbytes for part in found if not part.at_once}
    return {"base and bank": deltas, "between steps": stays} | passes | {"in all": max(passes.values())}


def measured(config: Config) -> dict[str, float]:
    """The same of this rank, as malloc has it."""
    device = torch.device("cpu")
    with joined_ranks(device, config.rank_timeout, always=config.deepspeed is not None) as ranks:
        _once(config, device, ranks)  # so that everything is imported and known
        gc.collect()
        return _once(config, device, ranks)


def _once(config: Config, device: torch.device, ranks: Ranks) -> dict[str, float]:
    tasks: list[Task] = []
    before = heap.used()
    deltas, found = _levels(config, device, ranks, tasks)
    gc.collect()
    rest = heap.used()  # the data, and what the process has learned
    zero = zero_of(config, ranks.size)
    if zero is not None and zero.stage == 3:  # of which DeepSpeed keeps the model beyond its end
        rest = before
    ours = {name: float(nbytes - rest) for name, nbytes in found.items()}
    return {"base and bank": deltas} | ours | {"in all": max(ours.values())}


def _levels(config: Config, device: torch.device, ranks: Ranks, tasks: list[Task]) -> tuple[float, dict[str, int]]:
    """Bytes of base and bank, and of the whole process between steps and at most in each kind of pass.

    Args:
        tasks: filled with those of the run, whose data outlives this.
    """
    model, made, _ = build(config, start_zero(zero_of(config, ranks.size), device))
    tasks += made
    target = next(i for i, task in enumerate(tasks) if task.name == config.target)
    engine = make_engine(model, tasks, target, config, ranks)
    data = TaskData(tasks, config, engine.share)
    _round(engine, data)  # makes the moments
    kept = engine.snapshot()
    if config.may_restart:
        engine.keep_start()
    engine.begin_round()
    training = max(heap.peak(partial(_train, engine, data, task)) for task in range(len(tasks)))
    between = heap.used()
    peaks: dict[Pass, int] = {
        "training": training,
        "alpha": heap.peak(lambda: _alpha(engine, data)),
        "evaluation": heap.peak(lambda: engine.evaluate(target, data.dev(target))),
    }
    assert kept.masters
    deltas = float(engine.memory().base + engine.memory().bank)
    engine.close()
    return deltas, {"between steps": between} | {PASSES[kind]: peak for kind, peak in peaks.items()}


def _round(engine: Engine, data: TaskData) -> None:
    engine.begin_round()
    for task in range(len(engine.tasks)):
        _train(engine, data, task)
    _alpha(engine, data)
    engine.merge([1.0] * len(engine.tasks))


def _train(engine: Engine, data: Any, task: int) -> None:
    engine.begin_task(task, seed=0)
    for batch in engine.fetch(data.cycle(task, 2)):
        engine.train_step(batch)
    engine.end_task()


def _alpha(engine: Engine, data: TaskData) -> None:
    engine.apply([1.0] * len(engine.tasks))
    engine.target_gradient(data.dev_draw(engine.target))


def compare(name: str, folder: Path) -> dict[str, Any]:
    """A run's figures; `folder` holds its data."""
    path, ranks, deepspeed = RUNS[name]
    overrides = ["output_dir=null"] + ([f"deepspeed={ROOT / deepspeed}"] if deepspeed else [])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(ranks):
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        places |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if ranks > 1 else {}
        environment = {key: str(value) for key, value in places.items()} if ranks > 1 else {}
        environment |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(heap.MMAPPED), "PYTHONPATH": str(ROOT)}
        worker = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks.plan",
            "--worker",
            str(ROOT / path),
            *overrides,
        ]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(worker, cwd=folder, env=os.environ | environment, stdout=pipe, text=True))
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{name}: a rank failed")
    ours = [json.loads(output.splitlines()[-1]) for output in outputs]
    plan = planned(load(ROOT / path, overrides), ranks)
    most = {part: max(found[part] for found in ours) for part in plan}
    return {"planned": plan, "measured": most}


def main() -> None:
    parser = command.parser("plan", __doc__)
    parser.add_argument("--data", type=Path, default=ROOT, help="the folder in which data/sentiment lies")
    parser.add_argument("--only", default="", help="runs whose names begin so; others keep their figures")
    parser.add_argument("--worker", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        torch.set_num_threads(1)
        print(json.dumps(measured(load(Path(options.worker[0]), options.worker[1:]))))
        return
    figures = {}
    if options.only and options.json and options.json.is_file():
        figures = json.loads(options.json.read_text(encoding="utf-8"))["runs"]
    for name in RUNS:
        if not name.startswith(options.only):
            continue
        figures[name] = compare(name, options.data.resolve())
        print(name)
        for part, plan in figures[name]["planned"].items():
            found = figures[name]["measured"][part]
            print(f"  {part:32} {plan / 1e6:9.2f} MB planned, {found / 1e6:9.2f} measured, {plan / found:.3f}")
    command.write(options.json, {"torch": torch.__version__, "runs": figures})


if __name__ == "__main__":
    main()
