"""avil-fast train"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from avil_fast.verbs.arguments import Arguments, AsJson, DeepSpeed, split_arguments


def train(
    arguments: Arguments = None,
    deepspeed_config: DeepSpeed = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="auto|PATH", help="Resume from output_dir's newest checkpoint, or from this one or this run."
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the report on this machine while the run goes on.")
    ] = False,
    watch_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="As --watch, at this port, so that it can be forwarded over ssh."),
    ] = None,
    as_json: AsJson = False,
    local_rank: Annotated[int, typer.Option("--local_rank", hidden=True)] = 0,
) -> None:
    """Train, by default on the bundled digits, with the baselines first.

    Example: avil-fast train configs/digits.yaml rounds=10
    """
    from avil_fast.checkpoint.resume import as_resume
    from avil_fast.run import launch

    path, overrides = split_arguments(arguments)
    if resume == "auto" and _is_finished(path, overrides, as_json):
        return
    port = 0 if watch and watch_port is None else watch_port
    launch.train(path, overrides, deepspeed_config, as_resume(resume), watch_port=port, as_json=as_json)


def _is_finished(path: Path | None, overrides: Sequence[str], as_json: bool) -> bool:
    """Whether this very run is there, finished; then that is told. On many ranks the run itself finds out."""
    from avil_fast.checkpoint.resume import setting_differences
    from avil_fast.config import load
    from avil_fast.report.place import MODEL, SUMMARY
    from avil_fast.report.run import read
    from avil_fast.stdout import JsonLines

    config = load(path, overrides)
    folder = config.output_dir
    if folder is None or "WORLD_SIZE" in os.environ or not (folder / SUMMARY).is_file():
        return False
    found = read(folder)
    if setting_differences(found.settings, config.model_dump(mode="json")):
        return False
    if not any((folder / MODEL.parent).glob("*.safetensors")):
        return False
    if as_json:
        JsonLines(config.method).result(found.summary, folder)
    else:
        more = config.rounds + 5
        print(
            f"{folder} is finished, and its report is {folder / 'report.html'}; rounds={more} trains on from there"
        )
    return True
