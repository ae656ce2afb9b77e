"""avil-fast plan"""

from __future__ import annotations

from typing import Annotated

import typer

from avil_fast.verbs.arguments import Arguments, AsJson, DeepSpeed, as_config, show


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
        Console().plan(found)
