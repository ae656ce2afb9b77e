"""Methods at the same budget over seeds, on one page that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.filesize import decimal

from avil_fast.comparing.statistics import LEVEL, Standing, mean
from avil_fast.report import plots
from avil_fast.report.figures import Figure, Table
from avil_fast.report.formatting import NONE, number
from avil_fast.report.headline_metric import is_percentage
from avil_fast.report.templates import template

if TYPE_CHECKING:
    from avil_fast.comparing.comparison import Comparison


def render(found: Comparison) -> str:
    """The page."""
    percent = in_percent(found)
    best = found.ranked[0]
    return template("comparison").render(
        target=found.target,
        measure=found.measure,
        seeds=len(found.seeds),
        methods=len(found.values),
        best=best,
        value=spread(found, best),
        said=list(sentences(found)),
        level=f"{LEVEL:.0%}",
        results=results(found),
        budgets=budgets(found),
        figures=[_figure(found, percent)],
    )


def in_percent(found: Comparison) -> bool:
    """Whether values are shown as percentages."""
    return found.measure.percent and is_percentage(run for own in found.summaries.values() for run in own)


def sentences(found: Comparison) -> Iterator[tuple[str, str]]:
    """(method, how it stands), the best first."""
    for name in found.ranked:
        if (standing := found.standings.get(name)) is not None:
            yield name, told(standing, found.measure.lower_is_better, in_percent(found))


def told(standing: Standing, lower_is_better: bool, percent: bool) -> str:
    """How a method stands, in words."""
    by = f"{100 * standing.difference:+.1f} points" if percent else f"{standing.difference:+.3f}"
    if math.isnan(standing.p):
        return f"{by} against {standing.rival}, with one seed, which tells nothing"
    word = {"better": "better than", "worse": "worse than", "equal": "not told apart from"}
    verdict = word[standing.verdict(lower_is_better)]
    p = probability(standing.p)
    return f"{verdict} {standing.rival} ({by}, p {p if p.startswith('<') else f'= {p}'})"


def probability(p: float) -> str:
    """In two digits."""
    return NONE if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def spread(found: Comparison, name: str) -> str:
    """Mean ± standard deviation."""
    middle, percent = mean(found.values[name]), in_percent(found)
    lost = f", {len(own)} of {len(found.seeds)} diverged" if (own := found.diverged.get(name)) else ""
    if name not in found.standings or math.isnan(sd := found.standings[name].sd):
        return (NONE if math.isnan(middle) else number(middle, percent)) + lost
    return (f"{100 * middle:.1f} ± {100 * sd:.1f} %" if percent else f"{middle:.3f} ± {sd:.3f}") + lost


def results(found: Comparison) -> Table:
    """A row for each method, the best first."""
    rows = []
    for name in found.ranked:
        standing = found.standings.get(name)
        against = [NONE, NONE, NONE]
        if standing is not None:
            by = standing.difference
            shown = f"{100 * by:+.1f} points" if in_percent(found) else f"{by:+.3f}"
            against = [standing.rival, shown, probability(standing.p)]
        rows.append([name, spread(found, name), *against])
    return Table(["method", f"{found.measure.name}, mean ± sd", "against", "difference", "p"], rows)


def budgets(found: Comparison) -> Table:
    """What each method used, a mean over seeds."""
    rows = [
        [
            name,
            f"{found.budgets[name].target:,.0f}",
            f"{found.budgets[name].auxiliary:,.0f}",
            f"{found.budgets[name].dev:.1f}",
            f"{found.budgets[name].cpu_seconds:.1f}",
            decimal(round(found.budgets[name].peak_bytes)),
        ]
        for name in found.ranked
        if name in found.budgets
    ]
    head = ["method", "target examples", "auxiliary examples", "dev passes", "CPU seconds", "peak memory"]
    return Table(head, rows)


def _figure(found: Comparison, percent: bool) -> Figure:
    values = {name: found.values[name] for name in found.ranked}
    rows = [
        [name, *(NONE if math.isnan(value) else number(value, percent) for value in own)]
        for name, own in values.items()
    ]
    label = f"{found.measure.name} of {len(values)} methods: " + ", ".join(
        f"{name} {spread(found, name)}" for name in values
    )
    return Figure(
        "seeds",
        f"{found.measure.name[0].upper()}{found.measure.name[1:]} by method",
        "A dot for each seed, a bar for the mean.",
        plots.dots("seeds", label, values, percent),
        [],
        Table(["method", *(f"seed {seed}" for seed in found.seeds)], rows),
    )
