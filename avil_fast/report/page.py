"""The report of a run: one HTML file that says what came out and loads nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from avil_fast.report import plots

_LOADER = jinja2.FileSystemLoader(Path(__file__).parent)
_TEMPLATES = jinja2.Environment(
    loader=_LOADER, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_PARTS = {
    "data": "loading data",
    "task_training": "task training",
    "alpha_phase": "α phase",
    "delta_ops": "delta operations",
    "evaluation": "evaluation",
}
# What a run is judged by: the first of these that it has.
_MEASURES = ("test_metric", "dev_metric", "test_loss", "dev_loss")


def render(summary: dict[str, Any], history: list[dict[str, Any]], config: str) -> str:
    """The page for a summary, the lines of metrics.jsonl and the configuration as YAML."""
    measure = next((key for key in _MEASURES if summary[key] is not None), "dev_loss")
    runs = [summary, *summary["baselines"].values()]
    metric = summary.get("metric") or {"name": "metric", "higher_is_better": True, "percent": False}
    values = [run[key] for run in [*runs, *history] for key in _MEASURES[:2] if run[key] is not None]
    percent = measure.endswith("metric") and metric["percent"] and all(0 <= value <= 1 for value in values)
    return _TEMPLATES.get_template("page.html.j2").render(
        run=summary,
        runs=runs,
        config=config,
        measure=measure.replace("metric", metric["name"]).replace("_", " "),
        lower_is_better=measure.endswith("loss") or not metric["higher_is_better"],
        value=_number(summary[measure], percent),
        others=[
            (run["method"], _number(run[measure], percent), _compare(summary[measure], run[measure], percent))
            for run in runs[1:]
        ],
        auxiliaries=[_auxiliary(summary, name) for name in summary["tasks"] if name != summary["target"]],
        figures=list(_figures(summary, history, percent)),
    )


def _number(value: float | None, percent: bool, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if percent else f"{value:.{digits}f}"


def _compare(value: float | None, other: float | None, percent: bool) -> str:
    """How far the run lies from a baseline, in the digits that are shown."""
    if value is None or other is None:
        return "not measured"
    apart = abs(value - other)
    size, unit = (f"{100 * apart:.1f}", " points") if percent else (f"{apart:.3f}", "")
    if float(size) == 0:
        return "this run is equal"
    return f"this run is {size}{unit} {'higher' if value > other else 'lower'}"


_VERDICTS = ((0.25, "set aside"), (0.9, "used in part"), (1.1, "used in full"), (math.inf, "turned up"))
"""What a run made of a task whose influence is below a bound; 1 is where every task starts."""


def _auxiliary(summary: dict[str, Any], name: str) -> tuple[str, str, str, str]:
    """Name, mean α, final weight and what became of an auxiliary; its influence starts at 1."""
    alpha, weight = summary["alpha_mean"].get(name), summary["weight_last"].get(name)
    influence = summary["influence"].get(name)
    if summary["steps"].get(name) == 0:
        verdict = "not trained"
    elif influence is None:
        verdict = "unknown"
    else:
        verdict = next(words for below, words in _VERDICTS if influence < below)
    return name, _number(alpha, False, 2), _number(weight, False, 2), verdict


Figure = tuple[str, str, Markup, Sequence[tuple[str, plots.Style]]]


def _figures(summary: dict[str, Any], history: list[dict[str, Any]], percent: bool) -> list[Figure]:
    """Title, caption, plot and legend of every figure that this run has the numbers for."""
    tasks, rounds = summary["tasks"], [row["round"] for row in history]
    styles = plots.task_styles(tasks, summary["target"])

    def by_task(key: str, before: list[float]) -> list[plots.Line]:
        return [(styles[name], before + [row[key].get(name) for row in history]) for name in tasks]

    def last(key: str) -> str:
        return ", ".join(f"{name} {_number(history[-1][key].get(name), False)}" for name in tasks)

    kind = "metric" if summary["dev_metric"] is not None else "loss"
    has = [split for split in plots.SPLITS if summary[f"{split}_{kind}"] is not None]
    curves = {split: [row[f"{split}_{kind}"] for row in history] for split in has}
    best, splits = summary["best_round"], " and ".join(curves)
    label = f"{splits} {kind} of {summary['target']} by round; round {best} was kept"
    progress: list[plots.Line] = [(plots.SPLITS[split], values) for split, values in curves.items()]
    plot = plots.lines("progress", label, progress, rounds, percent and kind == "metric", best)
    keys = [(split, plots.SPLITS[split]) for split in curves]
    figures: list[Figure] = [(f"{kind.capitalize()} of the target", "Before the fine-tune.", plot, keys)]
    for key, symbol, title, caption, before in (
        ("alpha", "α", "Coefficients α", "The share of each task's update that was merged.", []),
        ("weight", "w", "Weights w", "How strongly each task trains next; all start at 1.", [1.0]),
    ):
        if key == "weight" and all(value == 1.0 for row in history for value in row[key].values()):
            continue  # weights.rule is off: a flat line tells nothing
        label = f"{symbol} of every task by round; in the last round: {last(key)}"
        plot = plots.lines(key, label, by_task(key, before), [0] * len(before) + rounds)
        figures.append((title, caption, plot, list(styles.items())))
    cosine = history[-1]["cosine"]
    if len(cosine) > 1:
        label = f"Cosines between the updates of {len(tasks)} tasks in the last round"
        caption = "Last round. Blue: two tasks pull the same way; orange: against each other."
        figures.append(("Agreement of updates", caption, plots.heat_map("cosine", label, cosine, tasks), []))
    seconds = {part: sum(row["seconds"].get(key) or 0.0 for row in history) for key, part in _PARTS.items()}
    total = sum(row["seconds"]["total"] for row in history)
    seconds["other, in rounds"] = max(0.0, total - sum(seconds.values()))
    seconds["after the last round"] = max(0.0, summary["seconds"] - total)
    label = "Seconds by part: " + ", ".join(f"{part} {value:.2f}" for part, value in seconds.items())
    return [*figures, ("Time by part", "Without the baselines.", plots.bars("time", label, seconds), [])]
