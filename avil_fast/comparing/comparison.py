"""What a comparison of methods over seeds found, and the files that tell it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avil_fast.comparing.page import render
from avil_fast.comparing.statistics import Standing, best_first, standings
from avil_fast.report.headline_metric import Measure, by_dev_of_some, held_out, measure

RESULTS, TABLE, PAGE = "comparison.json", "comparison.csv", "comparison.html"


@dataclass(frozen=True)
class Budget:
    """What a method used, means over seeds."""

    target: float
    """Training examples of the target."""
    auxiliary: float
    """Training examples of all other tasks."""
    dev: float
    """Passes over the target's dev set, with a gradient or without."""
    cpu_seconds: float
    peak_bytes: float


@dataclass
class Comparison:
    """What was found.

    Attributes:
        target: name of the target.
        measure: what methods are judged by.
        seeds: in order.
        values: by method and seed; NaN where that run diverged, and of a method of `seen`.
        seen: methods that were trained on the dev set, where the others are judged by it.
        diverged: by method and seed, what was told.
        standings: by method; empty if there is one alone.
        budgets: by method.
        folder: where the runs and the page lie.
    """

    target: str
    measure: Measure
    seeds: list[int]
    values: dict[str, list[float]]
    seen: list[str]
    diverged: dict[str, dict[int, str]]
    standings: dict[str, Standing]
    budgets: dict[str, Budget]
    folder: Path
    summaries: dict[str, list[dict[str, Any]]] = field(repr=False)

    @property
    def page(self) -> Path:
        return self.folder / PAGE

    @property
    def ranked(self) -> list[str]:
        """The best first."""
        return best_first(self.values, self.measure.lower_is_better)

    def as_json(self) -> dict[str, Any]:
        """In JSON's types; None for what is not known."""
        return {
            "target": self.target,
            "measure": vars(self.measure),
            "seeds": self.seeds,
            "methods": {
                name: {
                    "values": [None if math.isnan(value) else value for value in self.values[name]],
                    "trained_on_dev": name in self.seen,
                    "diverged": self.diverged.get(name, {}),
                    **(self.standings[name].as_json() if name in self.standings else {}),
                    "budget": vars(self.budgets[name]) if name in self.budgets else None,
                }
                for name in self.values
            },
        }


def compared(
    summaries: Mapping[str, Mapping[int, dict[str, Any]]],
    seeds: list[int],
    to: Path,
    diverged: dict[str, dict[int, str]],
) -> Comparison:
    """The comparison of runs, by method and seed; one that diverged has no summary."""
    runs = {name: list(by_seed.values()) for name, by_seed in summaries.items()}
    finished = [summary for of_method in runs.values() for summary in of_method]
    judged, seen = measure(finished), list[str]()
    if by_dev_of_some(finished, judged):
        judged = measure([summary for summary in finished if held_out(summary)])
        seen = [name for name, of_method in runs.items() if not all(map(held_out, of_method))]
    values = {
        name: [by_seed[seed][judged.key] if seed in by_seed and name not in seen else math.nan for seed in seeds]
        for name, by_seed in summaries.items()
    }
    return Comparison(
        target=finished[0]["target"],
        measure=judged,
        seeds=seeds,
        values=values,
        seen=seen,
        diverged=diverged,
        standings=standings(values, judged.lower_is_better) if len(values) > 1 else {},
        budgets={name: _budget(of_method) for name, of_method in runs.items() if of_method},
        folder=to,
        summaries=runs,
    )


def _budget(summaries: Sequence[Mapping[str, Any]]) -> Budget:
    def mean(values: list[float]) -> float:
        return float(np.mean(values))

    seen = [summary["examples_seen"] for summary in summaries]
    targets = [by_task[summary["target"]] for by_task, summary in zip(seen, summaries, strict=True)]
    return Budget(
        target=mean(targets),
        auxiliary=mean([sum(by_task.values()) - target for by_task, target in zip(seen, targets, strict=True)]),
        dev=mean([summary["dev_passes"] for summary in summaries]),
        cpu_seconds=mean([summary["cpu_seconds"] for summary in summaries]),
        peak_bytes=mean([summary["memory"]["peak"] for summary in summaries]),
    )


def write(comparison: Comparison) -> None:
    """Write it into its folder: as JSON, as a table of values by method and seed, and as a page."""
    comparison.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(comparison.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    (comparison.folder / RESULTS).write_text(text + "\n", encoding="utf-8")
    with (comparison.folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seed", comparison.measure.key])
        writer.writerows(
            [name, seed, value]
            for name, values in comparison.values.items()
            for seed, value in zip(comparison.seeds, values, strict=True)
        )
    comparison.page.write_text(render(comparison), encoding="utf-8")
