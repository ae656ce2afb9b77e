"""Several runs side by side, on one page that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from avil_fast.config.settings import flat
from avil_fast.errors import AvilError
from avil_fast.report import figures, plots
from avil_fast.report.figures import Curve, Figure, Table
from avil_fast.report.formatting import NONE, difference, memory, number
from avil_fast.report.headline_metric import (
    SEEN,
    Measure,
    by_dev_of_some,
    held_out,
    in_percent,
    measure,
    measured,
    metric_info,
    shown,
)
from avil_fast.report.run import FinishedRun
from avil_fast.report.templates import template

_NO_MATTER = {"output_dir", "overwrite"}
"""Settings that say where a run lies, not what it is."""


def render(runs: Sequence[FinishedRun], diverged: Mapping[str, str] | None = None) -> str:
    """The page for finished runs; they are ranked if target and metric are the same.

    Args:
        runs: two or more, or one beside others that diverged.
        diverged: what was told when these did, by name.
    """
    named = dict(zip(_labels(runs), runs, strict=True))
    summaries = {label: run.summary for label, run in named.items()}
    why_not = _why_not_ranked(list(summaries.values()))
    judged = measure(list(summaries.values()))
    ranking = [] if why_not else _ranking(summaries, judged)
    styles = plots.line_styles(list(named), ranking[0] if ranking else next(iter(named)))
    differences = _differences({label: run.settings for label, run in named.items()})

    def behind(label: str) -> str:
        """How far a run lies from the best one; empty for that itself, and for its like."""
        return difference(summaries[label][judged.key], summaries[ranking[0]][judged.key], judged.percent)

    return template("several").render(
        runs=named,
        diverged=diverged or {},
        why_not=why_not,
        target=runs[0].summary["target"],
        measure=judged,
        best=[label for label in ranking if not behind(label)],
        value=number(summaries[ranking[0]][judged.key], judged.percent) if ranking else "",
        others=[
            (label, number(summaries[label][judged.key], judged.percent), behind(label))
            for label in ranking
            if behind(label)
        ],
        results=_results(summaries, not why_not),
        benefits=_benefits(summaries),
        differences=differences,
        other_data=any(row[0].partition(".")[0] == "tasks" for row in differences.rows),
        progress=list(_progress(named, styles)),
        merged=figures.merged(any(row.get("share") for run in runs for row in run.history)),
        alphas=list(_alphas(named, styles)),
    )


def _labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Names of folders, with as many of those above as it takes to tell them apart."""
    parts = [run.path.resolve().parts for run in runs]
    for i, path in enumerate(parts):
        if path in parts[:i]:
            raise AvilError(f"{str(runs[i].path)!r} is named twice; name each run once")
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(path[-depth:]) for path in parts]
        if len(set(labels)) == len(labels):
            break
    return labels


def _why_not_ranked(summaries: Sequence[Mapping[str, Any]]) -> str:
    targets = list(dict.fromkeys(summary["target"] for summary in summaries))
    if len(targets) > 1:
        return f"Their targets differ ({', '.join(targets)}), so they are not ranked."
    names = list(dict.fromkeys(map(_measured_by, summaries)))
    if len(names) > 1 or len({metric_info(summary)["higher_is_better"] for summary in summaries}) > 1:
        return f"Their metrics differ ({', '.join(names)}), so they are not ranked."
    if by_dev_of_some(summaries, measure(summaries)):
        return "Some were trained on the dev set, and not all have a test set, so they are not ranked."
    return ""


def _measured_by(summary: Mapping[str, Any]) -> str:
    """The name of a run's metric, or loss."""
    name: str = "loss" if summary["dev_metric"] is None else metric_info(summary)["name"]
    return name


def _ranking(summaries: Mapping[str, dict[str, Any]], judged: Measure) -> list[str]:
    """The best first."""
    return sorted(summaries, key=lambda label: summaries[label][judged.key], reverse=not judged.lower_is_better)


def _results(summaries: Mapping[str, dict[str, Any]], ranked: bool) -> Table:
    """A column for each run."""
    runs = list(summaries.values())
    rows = {split: [_measured(run, split, named=not ranked) for run in runs] for split in ("test", "dev")}
    if ranked:
        rows = {f"{split} {_measured_by(runs[0])}": cells for split, cells in rows.items()}
    else:
        rows = {"target": [run["target"] for run in runs], **rows}
    rows |= {
        "method": [run["method"] for run in runs],
        "preset": [run["preset"] for run in runs],
        "seed": [str(run["seed"]) for run in runs],
        "rounds": [str(run["rounds"]) for run in runs],
        "steps": [f"{sum(run['steps'].values()):,}" for run in runs],
        "seconds": [f"{run['seconds']:.1f}" for run in runs],
        "ranks": [str(run.get("ranks") or 1) for run in runs],
        "memory for θ": [memory(run)[0] for run in runs],
        "memory for deltas": [memory(run)[1] for run in runs],
    }
    return Table(["run", *summaries], [[name, *cells] for name, cells in rows.items()])


def _measured(run: dict[str, Any], split: str, named: bool) -> str:
    """The metric on a split, or the loss; with its name where runs have not the same."""
    if split == "dev" and not held_out(run):
        return SEEN
    metric = metric_info(run)
    if run[f"{split}_metric"] is not None:
        value, name = shown(run[f"{split}_metric"], metric, [run]), metric["name"]
    elif run["dev_metric"] is None and run[f"{split}_loss"] is not None:
        value, name = number(run[f"{split}_loss"]), "loss"
    else:
        return NONE
    return f"{value} {name}" if named else value


def _benefits(summaries: Mapping[str, dict[str, Any]]) -> Table:
    """By how much each task lowered the target's dev loss; no rows if no run tells."""
    benefits = {label: run.get("benefit") or {} for label, run in summaries.items()}
    rows = [
        [name, *(number(benefit.get(name)) for benefit in benefits.values())]
        for name in _tasks(summaries.values())
        if any(benefit.get(name) is not None for benefit in benefits.values())
    ]
    return Table(["task", *benefits], rows)


def _tasks(summaries: Iterable[dict[str, Any]]) -> list[str]:
    """Of all runs, in their order."""
    return list(dict.fromkeys(name for summary in summaries for name in summary["tasks"]))


def _differences(settings: Mapping[str, dict[str, Any]]) -> Table:
    """Settings that are not the same in all runs."""
    by_run = {label: {name: _shown(value) for name, value in flat(of_run)} for label, of_run in settings.items()}
    names = dict.fromkeys(name for of_run in by_run.values() for name in of_run)
    rows = [[name, *(of_run.get(name, NONE) for of_run in by_run.values())] for name in names]
    return Table(
        ["setting", *settings],
        [row for row in rows if len(set(row[1:])) > 1 and row[0] not in _NO_MATTER],
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _progress(runs: Mapping[str, FinishedRun], styles: Mapping[str, plots.Style]) -> Iterator[Figure]:
    """The target by round, a figure for all runs that can share one: on dev, if it was held out to the end.

    Else on test, if that was measured in every round; runs of which neither is so have none.
    """
    groups: dict[tuple[str, str], dict[str, FinishedRun]] = {}
    for label, run in runs.items():
        groups.setdefault((run.summary["target"], _measured_by(run.summary)), {})[label] = run
    for i, ((target, name), group) in enumerate(groups.items()):
        kind = "loss" if name == "loss" else "metric"
        if all(held_out(row) for run in group.values() for row in run.history):
            split = "dev"
        elif all(row[f"test_{kind}"] is not None for run in group.values() for row in run.history):
            split = "test"
        else:
            continue
        key = f"{split}_{kind}"
        curves = {label: Curve(styles[label], measured(run.history, key)) for label, run in group.items()}
        rows = [row for run in group.values() for row in (run.summary, *run.history)]
        percent = kind == "metric" and all(in_percent(metric_info(run.summary), rows) for run in group.values())
        yield figures.over_rounds(
            f"progress-{i}",
            f"{split.capitalize()} {name} of {target}",
            "Before the fine-tune.",
            f"{split.capitalize()} {name} of {target} by round; in the last: "
            + ", ".join(f"{label} {number(curve.values[-1])}" for label, curve in curves.items()),
            curves,
            _rounds(group),
            percent,
        )


def _alphas(runs: Mapping[str, FinishedRun], styles: Mapping[str, plots.Style]) -> Iterator[Figure]:
    """α by round, a figure for each task."""
    for i, task in enumerate(_tasks(run.summary for run in runs.values())):
        group = {label: run for label, run in runs.items() if task in run.summary["tasks"]}
        curves = {
            label: Curve(styles[label], [row["alpha"].get(task) for row in run.history])
            for label, run in group.items()
        }
        means = ", ".join(f"{label} {number(run.summary['alpha_mean'].get(task))}" for label, run in group.items())
        yield figures.over_rounds(
            f"alpha-{i}", task, "", f"α of {task} by round; on average: {means}", curves, _rounds(group)
        )


def _rounds(runs: Mapping[str, FinishedRun]) -> list[int]:
    return list(range(1, max(len(run.history) for run in runs.values()) + 1))
