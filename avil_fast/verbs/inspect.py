"""avil-fast inspect"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from avil_fast.errors import AvilError
from avil_fast.verbs.arguments import AsJson, show

if TYPE_CHECKING:
    from avil_fast.checkpoint.inspect import Inspection
    from avil_fast.checkpoint.manifest import Manifest
    from avil_fast.console import Console

WHAT_NEXT = "go on from another checkpoint with --resume auto"


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's folder, or a run's for its newest one.")],
    check: Annotated[bool, typer.Option(help="Read all of it and compare checksums.")] = True,
    as_json: AsJson = False,
) -> None:
    """Tell what a checkpoint is and whether it is whole.

    Example: avil-fast inspect runs/digits
    """
    from avil_fast.checkpoint.file_format import Damaged
    from avil_fast.checkpoint.inspect import find
    from avil_fast.checkpoint.inspect import inspect as look
    from avil_fast.console import Console
    from avil_fast.report.place import CONFIG, REPORT, SUMMARY

    path = find(checkpoint)
    try:
        found = look(path, check)
    except Damaged as error:
        raise AvilError(f"{error}; {WHAT_NEXT}") from error
    finished = (checkpoint / SUMMARY).is_file() if (checkpoint / CONFIG).is_file() else None
    if as_json:
        show({"checkpoint": str(path), "finished": finished} | found.as_json())
    else:
        console = Console()
        _print(console, path, found, check)
        if finished:
            console.say(f"the run is finished; its report: {checkpoint / REPORT}")
        elif finished is False and not found.damage:
            console.say(f"the run is not finished; go on with: {_command(checkpoint, found.manifest)}")
    if found.damage:
        raise AvilError(f"{', '.join(found.damage)}; {WHAT_NEXT}")


def _command(run: Path, manifest: Manifest) -> str:
    """What goes on with a run, from its newest checkpoint and on as many ranks."""
    from avil_fast.report.place import CONFIG

    settings, output_dir = manifest.config, manifest.config["output_dir"]
    if "tasks" not in settings:
        return f"fit(..., output_dir={str(run)!r}, resume='auto')"
    ranks = manifest.ranks
    begin = ["avil-fast", "train"] if ranks == 1 else ["torchrun", "--nproc-per-node", str(ranks)]
    begin += [] if ranks == 1 else ["-m", "avil_fast.train"]
    here = output_dir is not None and Path(output_dir).resolve() == run.resolve()
    elsewhere = [] if here else [f"output_dir={run}"]  # it was started in another folder, or this is a baseline's
    return shlex.join([*begin, str(run / CONFIG), *elsewhere, "--resume", "auto"])


def _print(console: Console, path: Path, inspection: Inspection, checked: bool) -> None:
    """What a checkpoint is."""
    from avil_fast.progress import in_words

    manifest, config = inspection.manifest, inspection.manifest.config
    tasks = ", ".join(task["name"] for task in manifest.tasks if task["name"] != config["target"])
    ranks = "1 process" if manifest.ranks == 1 else f"{manifest.ranks} ranks"
    parts = sorted(inspection.parts.items(), key=lambda part: -part[1])
    sizes = [decimal(inspection.nbytes), *(f"{decimal(nbytes)} {part}" for part, nbytes in parts)]
    whole = "yes" if checked else "sizes are right; contents were not checked"
    console.say(str(path))
    console.facts(
        {
            "run": f"{config['method']} for {config['target']}, with {tasks or 'no auxiliary'}",
            "saved": f"{manifest.saved} by avil_fast {manifest.version}",
            "where": f"{in_words(manifest.where)}, of {config['rounds']} rounds",
            "trained by": f"{ranks}, {manifest.engine}",
            "size": "\n".join(sizes),
            "whole": "no" if inspection.damage else whole,
        }
    )
