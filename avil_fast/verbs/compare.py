"""avil-fast compare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avil_fast.verbs.arguments import AsJson, show


def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="CONFIG... [KEY=VALUE]...", help="YAML files, and settings that override each."),
    ],
    to: Annotated[Path, typer.Option(help="A folder for the runs and their report.")] = Path("runs/compare"),
    as_json: AsJson = False,
) -> None:
    """Train by several configs and set them side by side; a comparison that was stopped goes on.

    Example: avil-fast compare configs/digits.yaml configs/paper.yaml rounds=6
    """
    from avil_fast.comparing import compare as run_all
    from avil_fast.console import Console

    configs = [Path(argument) for argument in arguments if "=" not in argument]
    overrides = [argument for argument in arguments if "=" in argument]
    found = run_all(configs, overrides, to, quiet=as_json)
    if as_json:
        show({"runs": {name: run.summary for name, run in found.runs.items()}, "report": str(found.report)})
    else:
        Console().compared(found)
