"""avil-fast compare"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avil_fast.errors import AvilError
from avil_fast.verbs.arguments import AsJson, completions, is_file, show

if TYPE_CHECKING:
    from avil_fast.comparing.comparison import Comparison
    from avil_fast.comparing.configs import Compared
    from avil_fast.console import Console


SEEDS = 5
"""Of each method, by default."""


def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG... [KEY=VALUE]...",
            help="YAML files, and settings that override each.",
            autocompletion=completions,
        ),
    ],
    methods: Annotated[
        str | None,
        typer.Option(help="Methods to compare on one config, such as avil,paper,multitask,single."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help=f"Runs of each method; by default {SEEDS}.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; by default one for each CPU.")] = None,
    to: Annotated[Path, typer.Option(help="A folder for the runs and their report.")] = Path("runs/compare"),
    as_json: AsJson = False,
) -> None:
    """Train by several configs, or by several methods over seeds, and set them side by side.

    Run the same command again to resume a comparison that was stopped.

    Example: avil-fast compare configs/digits.yaml configs/paper.yaml rounds=6
    Example: avil-fast compare configs/digits.yaml --methods avil,multitask,single --seeds 3
    """
    from avil_fast.comparing import configs
    from avil_fast.console import Console

    files = [Path(argument) for argument in arguments if is_file(argument)]
    overrides = [argument for argument in arguments if not is_file(argument)]
    if methods is None:
        for name, given in (("--seeds", seeds), ("--jobs", jobs)):
            if given is not None:
                raise AvilError(f"{name} is of methods, and a config has one run; leave it out, or give --methods")
        found = configs.compare(files, overrides, to, quiet=as_json)
        if as_json:
            runs = {name: run.summary for name, run in found.runs.items()}
            show({"runs": runs, "diverged": found.diverged, "report": str(found.report)})
        else:
            _print_runs(Console(), found)
        return
    from avil_fast.comparing import over_seeds as of_methods
    from avil_fast.comparing.entrants import parse

    if len(files) != 1:
        raise AvilError(f"--methods compares methods by one config, but {len(files)} are given; name one")

    def told(name: str, seed: int, done: int, runs: int) -> None:
        print(f"{done} of {runs}: {name}, seed {seed}", file=sys.stderr, flush=True)

    entrants, of_file = parse(methods), of_methods.FromFile(files[0])
    compared = of_methods.compare(of_file, overrides, entrants, seeds or SEEDS, to, jobs, told)
    if as_json:
        show(compared.as_json() | {"page": str(compared.page)})
    else:
        _print_methods(Console(), compared)


def _print_runs(console: Console, compared: Compared) -> None:
    """Runs side by side."""
    from avil_fast.console import figures

    rows = []
    for name, run in compared.runs.items():
        summary = run.summary
        steps = str(sum(summary["steps"].values()))
        values = figures(summary, summary["metric"], [summary])
        rows.append([name, summary["method"], *values, steps, f"{summary['seconds']:.1f}"])
    console.table(["run", "method", "test", "dev", "steps", "seconds"], rows, left=["run", "method"])
    for name, sentence in compared.diverged.items():
        console.say(f"{name} diverged: {sentence}")
    console.say(f"report: {compared.report}")


def _print_methods(console: Console, comparison: Comparison) -> None:
    """Methods side by side."""
    from avil_fast.comparing.page import TRAINED_ON_DEV, budgets, results
    from avil_fast.comparing.statistics import FEWEST

    for table in (results(comparison), budgets(comparison)):
        console.table(table.head, table.rows, left=["method", "against"])
    for name in comparison.seen:
        console.say(f"{name} {TRAINED_ON_DEV}")
    console.say(
        f"p: paired t-test over {len(comparison.seeds)} seeds against the best other method, corrected (Holm)"
        if len(comparison.seeds) >= FEWEST
        else f"no p, as a test needs {FEWEST} seeds; give --seeds 5 or more"
    )
    console.say(f"page: {comparison.page}")
