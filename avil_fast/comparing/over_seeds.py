"""Methods at the same budget, over several seeds."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from avil_fast.comparing.entrants import Entrant
from avil_fast.comparing.finished import how_it_diverged, is_done, note_divergence
from avil_fast.comparing.pool import run_all
from avil_fast.comparing.statistics import Standing, best_first, standings
from avil_fast.config import TrainConfig, load
from avil_fast.environment import cpus
from avil_fast.errors import AvilError, Diverged
from avil_fast.report.folder import SUMMARY
from avil_fast.report.headline_metric import Measure, measure

PRELOAD = (
    "avil_fast.launch",
    "avil_fast.tasks.digits",
    "sklearn.datasets",
    "avil_fast.report.page",
    "matplotlib.backends.backend_svg",
    "torch._dynamo",  # which an optimizer imports, and which takes longer than a small run
)
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
        values: by method and seed; NaN where that run diverged.
        diverged: by method and seed, what was told.
        standings: by method; empty if there is one alone.
        budgets: by method.
        folder: where the runs and the page lie.
    """

    target: str
    measure: Measure
    seeds: list[int]
    values: dict[str, list[float]]
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
                    "diverged": self.diverged.get(name, {}),
                    **(self.standings[name].as_json() if name in self.standings else {}),
                    "budget": vars(self.budgets[name]) if name in self.budgets else None,
                }
                for name in self.values
            },
        }


class Trains(Protocol):
    """What is trained by each method; it is handed to other processes."""

    def config(self, overrides: Sequence[str]) -> TrainConfig:
        """The checked settings of a run."""

    def train(self, overrides: Sequence[str]) -> None:
        """Train into `output_dir`, or go on there."""


@dataclass(frozen=True)
class FromFile:
    """A run from a YAML file; None: the bundled digits."""

    path: Path | None = None

    def config(self, overrides: Sequence[str]) -> TrainConfig:
        return load(self.path, overrides)

    def train(self, overrides: Sequence[str]) -> None:
        from avil_fast import launch

        launch.train(self.path, overrides, resume="auto", quiet=True)


def compare(
    what: Trains,
    overrides: Sequence[str],
    entrants: Sequence[Entrant],
    seeds: int,
    to: Path,
    at_once: int | None = None,
    told: Callable[[str, int, int, int], None] = lambda name, seed, done, runs: None,
) -> Comparison:
    """Train by every method with every seed, each in the folder METHOD/seed-N, and set them side by side.

    Runs that are finished there are taken as they are, and one that was stopped goes on.

    Args:
        what: is trained.
        overrides: settings for all of them.
        seeds: how many, from the config's own seed on.
        to: the folder.
        at_once: runs at a time; by default one for each CPU, or one where there is a GPU.
        told: called when a run is done, with its method and seed, and how many are of how many.

    Raises:
        AvilError: a setting cannot be used, or a finished run has other settings.
        Stopped: a signal came; runs that had begun were saved.
    """
    for override in overrides:
        if (name := override.partition("=")[0].strip()) in ("output_dir", "method"):
            raise AvilError(f"{name} is set, but a comparison sets it itself; leave it out")
    first = what.config(overrides).seed
    pairs = [(entrant, seed) for seed in range(first, first + seeds) for entrant in entrants]
    own = {pair: _overrides(overrides, *pair, to) for pair in pairs}
    configs = {pair: what.config(own[pair]) for pair in pairs}  # all are checked
    known = {
        pair: is_done(_folder(to, *pair), config) or how_it_diverged(_folder(to, *pair), config)
        for pair, config in configs.items()
    }
    left = [pair for pair in pairs if not known[pair]]
    finished = len(pairs) - len(left)

    def done(number: int, _: Any) -> None:
        nonlocal finished
        finished += 1
        entrant, seed = left[number]
        told(entrant.name, seed, finished, len(pairs))

    jobs = [partial(_train, what, own[pair], _folder(to, *pair)) for pair in left]
    run_all(jobs, at_once or _at_once(), done, PRELOAD)
    summaries: dict[str, dict[int, dict[str, Any]]] = {entrant.name: {} for entrant in entrants}
    diverged: dict[str, dict[int, str]] = {}
    for entrant, seed in pairs:
        folder = _folder(to, entrant, seed)
        if problem := how_it_diverged(folder, configs[entrant, seed]):
            diverged.setdefault(entrant.name, {})[seed] = problem
        else:
            summaries[entrant.name][seed] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    if not any(summaries.values()):
        told_first = next(iter(next(iter(diverged.values())).values()))
        raise AvilError(f"every run diverged: {told_first}")
    found = compared(summaries, list(range(first, first + seeds)), to, diverged)
    _write(found)
    return found


def _train(what: Trains, overrides: Sequence[str], folder: Path) -> None:
    """Train; a run that diverges leaves a sentence in its folder, as the others are worth going on for."""
    try:
        what.train(overrides)
    except Diverged as error:
        note_divergence(folder, what.config(overrides), str(error))


def compared(
    summaries: Mapping[str, Mapping[int, dict[str, Any]]],
    seeds: list[int],
    to: Path,
    diverged: dict[str, dict[int, str]],
) -> Comparison:
    """The comparison of runs, by method and seed; one that diverged has no summary."""
    runs = {name: list(own.values()) for name, own in summaries.items()}
    finished = [summary for own in runs.values() for summary in own]
    judged = measure(finished)
    values = {
        name: [own[seed][judged.key] if seed in own else math.nan for seed in seeds]
        for name, own in summaries.items()
    }
    return Comparison(
        target=finished[0]["target"],
        measure=judged,
        seeds=seeds,
        values=values,
        diverged=diverged,
        standings=standings(values, judged.lower_is_better) if len(values) > 1 else {},
        budgets={name: _budget(own) for name, own in runs.items() if own},
        folder=to,
        summaries=runs,
    )


def _budget(summaries: Sequence[Mapping[str, Any]]) -> Budget:
    def mean(values: list[float]) -> float:
        return float(np.mean(values))

    seen = [summary["examples_seen"] for summary in summaries]
    targets = [own[summary["target"]] for own, summary in zip(seen, summaries, strict=True)]
    return Budget(
        target=mean(targets),
        auxiliary=mean([sum(own.values()) - target for own, target in zip(seen, targets, strict=True)]),
        dev=mean([summary["dev_passes"] for summary in summaries]),
        cpu_seconds=mean([summary["cpu_seconds"] for summary in summaries]),
        peak_bytes=mean([summary["memory"]["peak"] for summary in summaries]),
    )


def _folder(to: Path, entrant: Entrant, seed: int) -> Path:
    return to / entrant.folder / f"seed-{seed}"


def _overrides(overrides: Sequence[str], entrant: Entrant, seed: int, to: Path) -> list[str]:
    saving = ["test_every_round=false", "log.tensorboard=false", "baselines=[]"]
    return [*saving, *overrides, *entrant.overrides, f"seed={seed}", f"output_dir={_folder(to, entrant, seed)}"]


def _at_once() -> int:
    import torch

    return 1 if torch.cuda.is_available() else cpus()


def _write(found: Comparison) -> None:
    from avil_fast.comparing.page import render

    found.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    (found.folder / RESULTS).write_text(text + "\n", encoding="utf-8")
    with (found.folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seed", found.measure.key])
        writer.writerows(
            [name, seed, value]
            for name, own in found.values.items()
            for seed, value in zip(found.seeds, own, strict=True)
        )
    found.page.write_text(render(found), encoding="utf-8")
