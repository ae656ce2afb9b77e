"""The figures of a page: a plot, and the numbers in it as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from avil_fast.report import plots
from avil_fast.report.formatting import number


@dataclass(frozen=True)
class Table:
    """Cells of text; the first of a row is its name."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A plot and what belongs to it.

    Attributes:
        name: its own on the page.
        keys: the legend.
        numbers: what is drawn, for whoever does not see it.
    """

    name: str
    title: str
    caption: str
    plot: Markup
    keys: Sequence[tuple[str, plots.Style]]
    numbers: Table


@dataclass(frozen=True)
class Curve:
    """A value by round, and how it is drawn."""

    style: plots.Style
    values: Sequence[float | None]


def over_rounds(
    name: str,
    title: str,
    caption: str,
    label: str,
    curves: Mapping[str, Curve],
    rounds: Sequence[int],
    percent: bool = False,
    mark: tuple[str, int] | None = None,
    unit: str = "round",
) -> Figure:
    """Curves over rounds, or what `unit` says; those that end early leave their last cells empty."""
    padded = {key: [*curve.values, *[None] * (len(rounds) - len(curve.values))] for key, curve in curves.items()}
    series = [(curve.style, padded[key]) for key, curve in curves.items()]
    rows = [
        [str(round_), *(number(values[i], percent) for values in padded.values())]
        for i, round_ in enumerate(rounds)
    ]
    plot = plots.lines(name, label, series, rounds, percent, mark, unit)
    keys = [(key, curve.style) for key, curve in curves.items()]
    return Figure(name, title, caption, plot, keys, Table([unit, *curves], rows))


def merged(settled: bool) -> str:
    """The caption of α by round."""
    together = "; once α is settled, tasks train together, and their steps follow from it."
    return "The share of each task's delta that was merged" + (together if settled else ".")


def cosines(tasks: Sequence[str], cosine: Sequence[Sequence[float]], round_: int) -> Figure:
    """Between the deltas of tasks in a round."""
    label = f"Cosines between the deltas of {len(tasks)} tasks in round {round_}"
    caption = (
        f"Round {round_}, the last in which tasks trained apart. Blue: two tasks pull the same way; orange: "
        f"against each other."
    )
    rows = [
        [task, *(f"{round(value, 2) + 0.0:.2f}" for value in of_task)]
        for task, of_task in zip(tasks, cosine, strict=True)
    ]
    # The diagonal, always 1, stays blank so that the scale fits the others.
    others = [
        [math.nan if i == j else value for j, value in enumerate(of_task)] for i, of_task in enumerate(cosine)
    ]
    plot = plots.heat_map("cosine", label, others, tasks, tasks)
    return Figure("cosine", "Agreement of deltas", caption, plot, [], Table(["task", *tasks], rows))


def layers(tasks: Sequence[str], alpha: Mapping[str, Mapping[str, float | None]], round_: int) -> Figure:
    """α of every layer and task in a round."""
    label = f"Coefficients of {len(tasks)} tasks in {len(alpha)} layers in round {round_}"
    caption = (
        f"Round {round_}, the last in which tasks trained apart. Blue: what the task learned in this layer was "
        f"merged; orange: taken back out."
    )
    values = {layer: [of_layer.get(task) for task in tasks] for layer, of_layer in alpha.items()}
    rows = [[layer, *(number(value) for value in of_layer)] for layer, of_layer in values.items()]
    known = [[math.nan if value is None else value for value in of_layer] for of_layer in values.values()]
    plot = plots.heat_map("layers", label, known, list(values), tasks)
    return Figure("layers", "Coefficients α by layer", caption, plot, [], Table(["layer", *tasks], rows))


def seconds(parts: dict[str, float]) -> Figure:
    """Where the time went."""
    label = "Seconds by part: " + ", ".join(f"{part} {value:.2f}" for part, value in parts.items())
    rows = [[part, f"{value:.2f}"] for part, value in parts.items()]
    plot = plots.bars("time", label, parts)
    return Figure("time", "Time by part", "Without the baselines.", plot, [], Table(["part", "seconds"], rows))
