"""avil-fast evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avil_fast.verbs.arguments import AsJson, RunArgument, show


def evaluate(
    run: RunArgument,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings that override the run's, such as other files."),
    ] = None,
    test: Annotated[
        list[Path] | None,
        typer.Option(help="A file to measure on in place of the run's own data; may be given again."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a finished run's model on its dev and test sets, or on other files.

    Example: avil-fast evaluate runs/digits device=cpu
    """
    from avil_fast.console import Console
    from avil_fast.evaluating import evaluate as measure

    found = measure(run, overrides or [], test or [])
    if as_json:
        show(found.as_json())
    else:
        Console().evaluated(found)
