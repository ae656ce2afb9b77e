"""The report of a run: one HTML file that says what came out and loads nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from avil_fast.engine.clock import PARTS
from avil_fast.report import figures, formatting, plots
from avil_fast.report.advice import advice
from avil_fast.report.auxiliaries import verdicts
from avil_fast.report.figures import Curve, Figure
from avil_fast.report.formatting import number
from avil_fast.report.headline_metric import Measure, by_dev_of_some, held_out, measure, measured
from avil_fast.report.templates import template


@dataclass(frozen=True)
class LiveState:
    """What a page says that goes on changing.

    Attributes:
        nonce: of its script.
        version: changes with the page.
        said: how far the run is.
        planned: rounds that the run is to have; 0 once it has ended.
        kept: what the round is that would be kept now: "best so far" or "latest".
    """

    nonce: str
    version: str
    said: str
    planned: int
    kept: str


def render(
    summary: dict[str, Any], history: list[dict[str, Any]], config: str, live: LiveState | None = None
) -> str:
    """The page for a summary, the lines of metrics.jsonl and the configuration as YAML.

    Args:
        live: for a page that a running process serves.
    """
    runs = [summary, *summary["baselines"].values()]
    judged = measure([summary], beside=[*runs[1:], *history])
    ranks = summary.get("ranks") or 1
    goes_on = live is not None and live.planned > 0
    mark = live.kept if live is not None and goes_on else "kept"
    return template("page").render(
        run=summary,
        runs=runs,
        config=config,
        measure=judged.name,
        lower_is_better=judged.lower_is_better,
        value=number(summary[judged.key], judged.percent),
        others=[
            (run["method"], number(run[judged.key], judged.percent), _compared(summary, run, judged))
            for run in runs[1:]
        ],
        advice="" if goes_on else advice(summary, history),
        verdicts=verdicts(summary, history),
        learned_once=sum(any((row.get("benefit") or {}).values()) for row in history) == 1,
        figures=list(_figures(summary, history, judged.percent, mark)),
        rejected=formatting.rejected(summary),
        memory=[formatting.memory(run) for run in runs],
        ranks=ranks,
        command=_command(config, ranks),
        live=live,
        goes_on=goes_on,
        held_out=sum(map(held_out, history)),
    )


def _command(config: str, ranks: int) -> str:
    """What trains by a config again; empty if it names no tasks, as those of a run from Python do not."""
    if not re.search(r"(?m)^tasks:", config):
        return ""
    return "avil-fast train" if ranks == 1 else f"torchrun --nproc-per-node {ranks} -m avil_fast.train"


def _compared(summary: dict[str, Any], baseline: dict[str, Any], judged: Measure) -> str:
    value, other = summary[judged.key], baseline[judged.key]
    if value is None or other is None:
        return "not measured"
    if by_dev_of_some([summary, baseline], judged):
        return "this run is not to be compared, as one of them was trained on the dev set"
    by = formatting.difference(value, other, judged.percent)
    if by and judged.lower_is_better:
        by += ", and so better" if value < other else ", and so worse"
    return f"this run is {by or 'equal'}"


def _alpha_by_step(row: dict[str, Any], tasks: list[str], styles: dict[str, plots.Style]) -> Figure:
    """How α was learned in the one round that it was: there is no way over rounds to show."""
    path = row["alpha_path"]
    ended = ", ".join(f"{name} {number(value)}" for name, value in zip(tasks, path[-1], strict=True))
    return figures.over_rounds(
        "alpha",
        "Coefficients α",
        f"Learned in round {row['round']}, by descent on the target's dev loss; from then on tasks train "
        f"together, and their steps follow from α.",
        f"α of every task by step of the descent; at its end: {ended}",
        {name: Curve(styles[name], [step[i] for step in path]) for i, name in enumerate(tasks)},
        range(len(path)),
        unit="step",
    )


def _figures(summary: dict[str, Any], history: list[dict[str, Any]], percent: bool, mark: str) -> Iterator[Figure]:
    """Every figure that this run has the numbers for."""
    tasks, rounds = summary["tasks"], [row["round"] for row in history]
    styles = plots.line_styles(tasks, summary["target"])

    def last(key: str) -> str:
        return ", ".join(f"{name} {number(history[-1][key].get(name))}" for name in tasks)

    kind = "metric" if summary["dev_metric"] is not None else "loss"
    curves = {
        split: Curve(style, measured(history, f"{split}_{kind}"))
        for split, style in plots.SPLITS.items()
        if summary[f"{split}_{kind}"] is not None
    }
    best, splits = summary["best_round"], " and ".join(curves)
    yield figures.over_rounds(
        "progress",
        f"{kind.capitalize()} of the target",
        "Before the fine-tune." + ("" if all(map(held_out, history)) else " Dev only as long as it was held out."),
        f"{splits} {kind} of {summary['target']} by round; {mark}: round {best}",
        curves,
        rounds,
        percent and kind == "metric",
        (mark, best) if best in rounds else None,
    )
    apart = [row for row in history if len(row["cosine"]) == len(tasks)]
    learned = apart or history
    path = learned[0].get("alpha_path") or [[]]
    if len(learned) == 1 < len(history) and all(len(step) == len(tasks) for step in path):
        yield _alpha_by_step(learned[0], tasks, styles)
    else:
        yield figures.over_rounds(
            "alpha",
            "Coefficients α",
            figures.merged(settled=len(learned) < len(history)),
            f"α of every task by round; in the last round: {last('alpha')}",
            {name: Curve(styles[name], [row["alpha"].get(name) for row in history]) for name in tasks},
            rounds,
        )
    if any(value != 1.0 for row in history for value in row["weight"].values()):  # else weights.rule is off
        yield figures.over_rounds(
            "weight",
            "Weights w",
            "How strongly each task trains next; all start at 1.",
            f"w of every task by round; in the last round: {last('weight')}",
            {name: Curve(styles[name], [1.0, *(row["weight"].get(name) for row in history)]) for name in tasks},
            [0, *rounds],
        )
    by_layer = [row for row in history if row.get("alpha_layers")]
    if by_layer:
        yield figures.layers(tasks, by_layer[-1]["alpha_layers"], by_layer[-1]["round"])
    if len(tasks) > 1 and apart:
        yield figures.cosines(tasks, apart[-1]["cosine"], apart[-1]["round"])
    seconds = {part: sum(row["seconds"].get(key) or 0.0 for row in history) for key, part in PARTS.items()}
    total = sum(row["seconds"]["total"] for row in history)
    seconds["other, in rounds"] = max(0.0, total - sum(seconds.values()))
    seconds["after the last round"] = max(0.0, summary["seconds"] - total)
    yield figures.seconds(seconds)
