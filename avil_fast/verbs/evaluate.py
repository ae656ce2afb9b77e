"""avil-fast evaluate"""

from __future__ import annotations

from typing import Annotated

import typer

from avil_fast.verbs.arguments import AsJson, Run, show


def evaluate(
    run: Run,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings that override the run's, such as other files."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a finished run's model on its dev and test sets, or on others.

    Example: avil-fast evaluate runs/digits device=cpu
    """
    from avil_fast.console import Console
    from avil_fast.evaluating import evaluate as measure

    found = measure(run, overrides or [])
    if as_json:
        show(found.as_json())
    else:
        Console().evaluated(found)
