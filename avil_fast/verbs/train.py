"""avil-fast train"""

from __future__ import annotations

from typing import Annotated

import typer

from avil_fast.verbs.arguments import Arguments, AsJson, DeepSpeed, split


def train(
    arguments: Arguments = None,
    deepspeed_config: DeepSpeed = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="auto|PATH", help="Go on from the newest checkpoint of output_dir, or from this."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the report on this machine while the run goes on.")
    ] = False,
    as_json: AsJson = False,
    local_rank: Annotated[int, typer.Option("--local_rank", hidden=True)] = 0,
) -> None:
    """Train, by default on the bundled digits, with the baselines first.

    Example: avil-fast train configs/digits.yaml rounds=10
    """
    from avil_fast import launch
    from avil_fast.checkpoint.resume import as_resume

    path, overrides = split(arguments)
    launch.train(path, overrides, deepspeed_config, as_resume(resume), watch=watch, as_json=as_json)
