"""What a checkpoint costs: `python -m benchmarks.checkpoints`.

A model of MiniLM's size in the α phase, with a moment set and a delta for each of four tasks: bytes of the files
against those of the state, how long training pauses against a copy of as many bytes in memory, how long
the disk takes against plain writes, and how long loading takes. Each is the median of a few repeats, in turns.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.load import load
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.saver import RunState, Saver
from avil_fast.checkpoint.stop import Stop
from avil_fast.config import CheckpointsConfig, DeltasConfig, OptimizerConfig
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.ranks import ALONE
from avil_fast.engine.settings import EngineSettings
from avil_fast.tasks.task import Task
from benchmarks import command


def engine_of(width: int, layers: int, tasks: int) -> LocalEngine:
    """An engine that has trained every task for a step."""
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return functional.mse_loss(model(batch), batch)

    batches = [torch.randn(2, width)]
    made = [Task(f"task {i}", batches, loss, dev=batches) for i in range(tasks)]
    engine = LocalEngine(model, made, 0, EngineSettings(OptimizerConfig(), DeltasConfig()))
    engine.begin_round()
    for task in range(tasks):
        engine.begin_task(task, seed=0)
        engine.train_step(batches[0])
        engine.end_task()
    engine.apply([1.0] * tasks)
    return engine


def bytes_of_state(engine: LocalEngine) -> dict[str, int]:
    """θ, the optimizer's moments and the deltas."""
    parts = {"theta": 0, "moment": 0, "delta": 0}
    for kind, stored in engine.state().sharded.items():
        parts[kind.split("/")[0]] += sum(piece.values.nbytes for piece in stored)
    return parts


def plain(folder: Path, tensors: list[Tensor]) -> tuple[float, float]:
    """Seconds of a copy in memory that is there, and of writing and flushing the same bytes."""
    copies = [tensor.clone() for tensor in tensors]
    began = time.perf_counter()
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor)
    copied = time.perf_counter()
    with (folder / "plain").open("wb", buffering=0) as file:
        for copy in copies:
            file.write(copy.numpy())  # type: ignore[arg-type]  # arrays are buffers
        os.fsync(file.fileno())
    written = time.perf_counter()
    (folder / "plain").unlink()
    return copied - began, written - copied


def measure(width: int, layers: int, tasks: int, repeats: int, folder: Path) -> dict[str, Any]:
    """The figures; in seconds and bytes."""
    engine = engine_of(width, layers, tasks)
    tensors = [piece.values for stored in engine.state().sharded.values() for piece in stored]
    about = {"version": "", "engine": engine.name, "config": {}, "tasks": [], "extra": {}}
    config = CheckpointsConfig(minutes=None, keep=1)
    saver = Saver(Folder(folder / "checkpoints"), engine, ALONE, config, Stop(), about)
    state = RunState({}, {"best": None}, None)
    saver.save(state)  # the first one also asks for memory
    saver.finish()
    first = saver.seconds
    found: dict[str, list[float]] = {"held": [], "written": [], "copy": [], "plain": [], "loaded": []}
    for _ in range(repeats):
        before, began = saver.seconds, time.perf_counter()
        saver.save(state)
        found["held"].append(saver.seconds - before)
        saver.finish()
        found["written"].append(time.perf_counter() - began)
        copy, write = plain(folder, tensors)
        found["copy"].append(copy)
        found["plain"].append(write)
        (path,) = Folder(folder / "checkpoints").all()
        began = time.perf_counter()
        load(engine, ALONE, path, Manifest.read(path))
        found["loaded"].append(time.perf_counter() - began)
        engine.apply([1.0] * tasks)
    parts = bytes_of_state(engine)
    medians = {f"seconds_{name}": statistics.median(values) for name, values in found.items()}
    files = sum(file.stat().st_size for file in path.iterdir())
    return {"bytes": parts, "bytes_of_files": files, "seconds_held_first": first} | medians


def main() -> None:
    parser = command.parser("checkpoints", __doc__)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=21, help="of width² weights each: 22 million in all")
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; by default a temporary folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        found = measure(options.width, options.layers, options.tasks, options.repeats, folder)
    finally:
        shutil.rmtree(folder)
    state = sum(found["bytes"].values())
    parts = ", ".join(f"{name} {nbytes / 1e6:.0f} MB" for name, nbytes in found["bytes"].items())
    period = 60 * (CheckpointsConfig().minutes or 5)
    share = 100 * found["bytes_of_files"] / state
    print(f"state    {state / 1e6:.0f} MB: {parts}; the files take {share:.2f} % of it")
    print(
        f"training paused for {found['seconds_held']:.2f} s, a copy in memory {found['seconds_copy']:.2f} s; "
        f"the first time {found['seconds_held_first']:.2f} s"
    )
    print(f"written  {found['seconds_written']:.2f} s, plain writes {found['seconds_plain']:.2f} s")
    print(f"loaded   {found['seconds_loaded']:.2f} s, every checksum compared")
    print(
        f"every {period / 60:.0f} minutes: paused {100 * found['seconds_held'] / period:.2f} % of the time, "
        f"writing {100 * found['seconds_written'] / period:.2f} %"
    )
    command.write(options.json, found)


if __name__ == "__main__":
    main()
