"""avil-fast evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avil_fast.verbs.arguments import AsJson, RunArgument, show

if TYPE_CHECKING:
    from avil_fast.console import Console
    from avil_fast.evaluating import Evaluated


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
        _print(Console(), found)


def _print(console: Console, evaluated: Evaluated) -> None:
    """A run's model, measured again, beside what the run itself found."""
    from avil_fast.report.formatting import NONE, number
    from avil_fast.report.headline_metric import SEEN, shown

    metric, summary = evaluated.metric, evaluated.run.summary
    alike = not metric or metric["name"] == (summary.get("metric") or metric)["name"]
    rows = []
    for split, measured in evaluated.splits.items():
        again = [shown(measured.metric, metric, [summary])] if metric else []
        own = summary[f"{split}_{'metric' if metric else 'loss'}"] if alike else None
        before = shown(own, metric, [summary])
        name = split if evaluated.held_out[split] else f"{split} ({SEEN})"
        rows.append([name, str(evaluated.examples.get(split, NONE)), number(measured.loss), *again, before])
    head = ["split", "examples", "loss", *([metric["name"]] if metric else []), "the run's own"]
    console.table(head, rows, left=["split"], title=f"target {summary['target']}")
