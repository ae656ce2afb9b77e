"""avil-fast plan"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from avil_fast.verbs.arguments import Arguments, AsJson, DeepSpeed, as_config, show

if TYPE_CHECKING:
    from avil_fast.console import Console
    from avil_fast.planning.plan import Plan


def plan(
    arguments: Arguments = None,
    gpus: Annotated[int, typer.Option(min=1, help="Number of GPUs, or of CPU processes, over all machines.")] = 1,
    gpu: Annotated[str, typer.Option(help="a100, h100, h200, or cpu for processes without one.")] = "h100",
    gpu_memory: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="GB", help="Memory of each in 10^9 bytes; by default that of its kind."),
    ] = None,
    deepspeed_config: DeepSpeed = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a run takes and whether it fits, before anything is loaded.

    Example: avil-fast plan configs/digits.yaml --gpus 8 --gpu-memory 80
    """
    from avil_fast.console import Console
    from avil_fast.errors import AvilError
    from avil_fast.planning.hardware import GPUS
    from avil_fast.planning.plan import plan as make

    if gpu not in (*GPUS, "cpu"):
        raise AvilError(
            f"--gpu is {gpu!r}, but must be {', '.join(GPUS)} or cpu; --gpu-memory says how much it has"
        )
    kind = GPUS.get(gpu)
    room = gpu_memory * 1e9 if gpu_memory is not None else kind.memory if kind else None
    found = make(as_config(arguments, deepspeed_config), gpus, kind, room)
    if as_json:
        show(found.as_json())
    else:
        _print(Console(), found)


def _print(console: Console, plan: Plan) -> None:
    """What a run takes on each rank."""
    sizes, on_gpu = plan.sizes, plan.gpu is not None
    model = f"{_count(sizes.shared)} shared elements that are trained"
    model += f", {_count(sum(sizes.heads))} in heads" if sum(sizes.heads) else ""
    model += f", {_count(sizes.frozen)} frozen" if sizes.frozen else ""
    kind = f"x {plan.gpu.name}" if plan.gpu else "CPU processes"
    console.say(f"{model}; {plan.tasks} tasks; {plan.ranks} {kind}")
    largest = max((part for part in plan.parts if not part.at_once), key=lambda part: part.nbytes)
    rows = []
    for part in plan.parts:
        place = [{"device": "GPU", "host": "CPU"}[part.place]] if on_gpu else []
        counted = part.formula if part.at_once or part is largest else f"{part.formula}; at another time"
        rows.append([part.name, decimal(round(part.nbytes)), *place, counted])
    text = ["part", *(["where"] if on_gpu else []), "how it is counted"]
    title = f"memory of a {'GPU' if on_gpu else 'process'}"
    console.table([text[0], "size", *text[1:]], rows, left=text, title=title)
    console.say(_verdict(plan))
    disk = plan.disk
    each, together = (decimal(round(nbytes)) for nbytes in (disk.checkpoint, disk.nbytes))
    console.say(f"on the disk: checkpoints of at most {each}, {disk.number} at a time: {together}")
    moved = plan.traffic
    if moved.passes:
        parts = [f"{moved.passes} passes forward and backward over the dev examples"]
        parts += [f"{decimal(round(moved.memory))} read and written by operations on deltas"]
        parts += [f"{decimal(round(moved.network))} received from other ranks"] if moved.network else []
        parts += [f"{decimal(round(moved.bus))} between GPU and CPU"] if moved.bus else []
        console.say(f"αVIL's own work in a round: {', '.join(parts)}")
    if plan.seconds:
        times = ", ".join(f"{what} {seconds:.2g} s" for what, seconds in plan.seconds.items())
        console.say(f"which takes at least: {times}")
    for note in plan.notes:
        console.say(f"note: {note}")


def _verdict(plan: Plan) -> str:
    """Whether a run fits, and what to do if not."""
    size, largest = decimal(round(plan.device)), f"the largest part: {plan.largest.name}"
    if plan.room is None:
        return f"at most {size} in each process; {largest}. With --gpu-memory GB: whether it fits"
    room = decimal(round(plan.room))
    host = f", and {decimal(round(plan.host))} for each in the CPU's memory" if plan.host else ""
    if plan.fits:
        return f"fits: at most {size} of {room}{host}; {largest}"
    problem = f"does not fit: {size}, but there are {room}; {largest}."
    if plan.advice is None:
        return f"{problem} No setting makes it fit: use model.lora, a lower model.max_length, or more GPUs"
    changes = [f"{change.words} ({change.cost})" for change in plan.advice.changes]
    if plan.advice.ranks > plan.ranks:
        changes.append(f"--gpus {plan.advice.ranks}")
    then = f"then it takes {decimal(round(plan.advice.nbytes))}"
    then += f", and {decimal(round(plan.advice.host))} for each in the CPU's memory" if plan.advice.host else ""
    return f"{problem} The cheapest change: {', '.join(changes)}; {then}"


def _count(elements: int) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if elements >= size:
            return f"{elements / size:.3g} {name}"
    return f"{elements:,}"
