"""Methods at the same budget over seeds, on one page that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.filesize import decimal

from avil_fast.comparing.statistics import FEWEST, LEVEL, Standing, mean
from avil_fast.report import plots
from avil_fast.report.figures import Figure, Table
from avil_fast.report.formatting import NONE, number
from avil_fast.report.headline_metric import SEEN, Measure
from avil_fast.report.templates import template

if TYPE_CHECKING:
    from avil_fast.comparing.comparison import Comparison


def render(comparison: Comparison) -> str:
    """The page."""
    best = comparison.ranked[0]
    return template("comparison").render(
        target=comparison.target,
        measure=comparison.measure,
        seeds=len(comparison.seeds),
        methods=sum(not math.isnan(mean(values)) for values in comparison.values.values()),
        best=best,
        value=spread(comparison, best),
        said=list(sentences(comparison)),
        level=f"{LEVEL:.0%}",
        fewest=FEWEST,
        results=results(comparison),
        budgets=budgets(comparison),
        figures=[_figure(comparison)],
    )


TRAINED_ON_DEV = "was trained on the dev set, by which the others are judged; a test set would tell"


def sentences(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """(method, how it stands), the best first."""
    for name in comparison.ranked:
        standing = comparison.standings.get(name)
        if name in comparison.seen:
            yield name, TRAINED_ON_DEV
        elif math.isnan(mean(comparison.values[name])):
            yield name, "diverged with every seed"
        elif standing is not None and not math.isnan(standing.difference):
            yield name, in_words(standing, comparison.measure, len(comparison.seeds))


def in_words(standing: Standing, measure: Measure, seeds: int) -> str:
    """How a method stands after so many seeds."""
    by = lead(standing, measure)
    if math.isnan(standing.p):
        why = "there is no test" if seeds >= FEWEST else f"a test needs {FEWEST} seeds or more"
        return f"{by} against {standing.rival}; {why}"
    word = {"better": "better than", "worse": "worse than", "equal": "not told apart from"}
    verdict = word[standing.verdict(measure.lower_is_better)]
    p = probability(standing.p)
    return f"{verdict} {standing.rival} ({by}, p {p if p.startswith('<') else f'= {p}'})"


def lead(standing: Standing, measure: Measure) -> str:
    """By how much a method is above its rival."""
    return f"{100 * standing.difference:+.1f} points" if measure.percent else f"{standing.difference:+.3f}"


def probability(p: float) -> str:
    """In two digits."""
    return NONE if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def spread(comparison: Comparison, name: str) -> str:
    """Mean ± standard deviation."""
    if name in comparison.seen:
        return SEEN
    middle, percent = mean(comparison.values[name]), comparison.measure.percent
    diverged = len(comparison.diverged.get(name, {}))
    lost = f", {diverged} of {len(comparison.seeds)} diverged" if diverged else ""
    if name not in comparison.standings or math.isnan(sd := comparison.standings[name].sd):
        return (NONE if math.isnan(middle) else number(middle, percent)) + lost
    return (f"{100 * middle:.1f} ± {100 * sd:.1f} %" if percent else f"{middle:.3f} ± {sd:.3f}") + lost


def results(comparison: Comparison) -> Table:
    """A row for each method, the best first."""
    rows = []
    for name in comparison.ranked:
        standing = comparison.standings.get(name)
        against = [NONE, NONE, NONE]
        if standing is not None and not math.isnan(standing.difference):
            against = [standing.rival, lead(standing, comparison.measure), probability(standing.p)]
        rows.append([name, spread(comparison, name), *against])
    return Table(["method", f"{comparison.measure.name}, mean ± sd", "against", "difference", "p"], rows)


def budgets(comparison: Comparison) -> Table:
    """What each method used, a mean over seeds."""
    rows = [
        [
            name,
            f"{comparison.budgets[name].target:,.0f}",
            f"{comparison.budgets[name].auxiliary:,.0f}",
            f"{comparison.budgets[name].dev:.1f}",
            f"{comparison.budgets[name].cpu_seconds:.1f}",
            decimal(round(comparison.budgets[name].peak_bytes)),
        ]
        for name in comparison.ranked
        if name in comparison.budgets
    ]
    head = ["method", "target examples", "auxiliary examples", "dev passes", "CPU seconds", "peak memory"]
    return Table(head, rows)


def _figure(comparison: Comparison) -> Figure:
    percent = comparison.measure.percent
    values = {name: comparison.values[name] for name in comparison.ranked}
    rows = [
        [name, *(NONE if math.isnan(value) else number(value, percent) for value in of_method)]
        for name, of_method in values.items()
    ]
    label = f"{comparison.measure.name} of {len(values)} methods: " + ", ".join(
        f"{name} {spread(comparison, name)}" for name in values
    )
    return Figure(
        "seeds",
        f"{comparison.measure.name[0].upper()}{comparison.measure.name[1:]} by method",
        "A dot for each seed, a bar for the mean.",
        plots.dots("seeds", label, values, percent),
        [],
        Table(["method", *(f"seed {seed}" for seed in comparison.seeds)], rows),
    )
