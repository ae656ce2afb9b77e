"""A run's plan: whether it fits, what would make it fit, and what αVIL costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from avil_fast.config import Config
from avil_fast.planning.advice import Advice, advise
from avil_fast.planning.describe import planned_run
from avil_fast.planning.disk import Disk, disk
from avil_fast.planning.hardware import MFU, PER_MACHINE, Gpu
from avil_fast.planning.memory import MemoryPart, parts, total
from avil_fast.planning.traffic import Traffic, traffic
from avil_fast.tasks.shapes.base import Sizes


@dataclass(frozen=True)
class Plan:
    """What a run takes on each rank."""

    sizes: Sizes
    tasks: int
    ranks: int
    gpu: Gpu | None
    """Kind of the GPUs; None: CPU processes."""
    room: float | None
    """Bytes that there are on a GPU; None where nobody said."""
    parts: Sequence[MemoryPart]
    device: float
    """Bytes at most on the GPU, or in a process."""
    host: float
    """Bytes at most in the CPU's memory beside a GPU."""
    disk: Disk
    traffic: Traffic
    seconds: dict[str, float]
    """Least seconds of αVIL's own work in a round, by part; empty without a GPU."""
    advice: Advice | None
    notes: Sequence[str]

    @property
    def fits(self) -> bool | None:
        """Whether the run fits; None where nobody said how much memory there is."""
        return None if self.room is None else self.device <= self.room

    @property
    def largest(self) -> MemoryPart:
        """What takes the most: the first thing that more GPUs, tasks or layers come up against."""
        here = [part for part in self.parts if self.gpu is None or part.place == "device"]
        return max(here, key=lambda part: part.nbytes)

    def as_json(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        advice = None
        if self.advice is not None:
            changes = [{"set": change.words, "cost": change.cost} for change in self.advice.changes]
            advice = {"changes": changes, "ranks": self.advice.ranks}
            advice |= {"device_bytes": self.advice.nbytes, "host_bytes": self.advice.host}
        return {
            "sizes": asdict(self.sizes),
            "tasks": self.tasks,
            "ranks": self.ranks,
            "parts": [asdict(part) for part in self.parts],
            "device_bytes": self.device,
            "host_bytes": self.host,
            "checkpoint_bytes": self.disk.checkpoint,
            "disk_bytes": self.disk.nbytes,
            "room_bytes": self.room,
            "fits": self.fits,
            "largest": self.largest.name,
            "round": asdict(self.traffic) | {"seconds": self.seconds},
            "advice": advice,
            "notes": list(self.notes),
        }


def plan(config: Config, ranks: int, gpu: Gpu | None, room: float | None) -> Plan:
    """The plan of a run, before anything of it is loaded but its model's config.json.

    Args:
        config: the run.
        ranks: GPUs, or CPU processes.
        gpu: their kind; None for CPU processes.
        room: bytes that each has.

    Raises:
        AvilError: the settings do not go together, or there is no such model.
    """
    run = planned_run(config, ranks, on_gpu=gpu is not None)
    found = parts(run)
    device = total(found, "device", run.on_gpu)
    moved = traffic(run)
    notes = list(run.shape.notes)
    if run.dev is None and config.alpha.dev_examples is None:
        notes.append(
            f"the settings do not say how large the target's dev set is; it is taken to have eval_batch_size = "
            f"{config.eval_batch_size} examples"
        )
    if gpu is not None:
        where = "NVLink" if ranks <= PER_MACHINE else "the network"
        notes.append(
            f"seconds are floors: {gpu.name}, {gpu.bandwidth / 1e12:.3g} TB/s of memory, communication over "
            f"{where}, {MFU:.0%} of the arithmetic"
        )
    return Plan(
        sizes=run.shape.sizes,
        tasks=run.tasks,
        ranks=ranks,
        gpu=gpu,
        room=room,
        parts=found,
        device=device,
        host=total(found, "host", True) if gpu is not None else 0.0,
        disk=disk(run),
        traffic=moved,
        seconds=moved.seconds(gpu, ranks, run.element) if gpu is not None else {},
        advice=advise(run, room) if room is not None and device > room else None,
        notes=notes,
    )
