"""Methods at the same budget, over several seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from avil_fast.comparing.comparison import Comparison, compared, write
from avil_fast.comparing.entrants import Entrant
from avil_fast.comparing.finished import how_it_diverged, is_done, note_divergence, require_place
from avil_fast.comparing.pool import run_all
from avil_fast.config import TrainConfig, load
from avil_fast.environment import cpus
from avil_fast.errors import AvilError, Diverged
from avil_fast.report.place import SUMMARY

PRELOAD = (
    "avil_fast.run.launch",
    "avil_fast.tasks.digits",
    "sklearn.datasets",
    "avil_fast.report.page",
    "matplotlib.backends.backend_svg",
    "torch._dynamo",  # which an optimizer imports, and which takes longer than a small run
)


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
        from avil_fast.run import launch

        launch.train(self.path, overrides, resume="auto", quiet=True)


def compare(
    what: Trains,
    overrides: Sequence[str],
    entrants: Sequence[Entrant],
    seeds: int,
    to: Path,
    at_once: int | None = None,
    on_done: Callable[[str, int, int, int], None] = lambda name, seed, done, runs: None,
) -> Comparison:
    """Train by every method with every seed, each in the folder METHOD/seed-N, and set them side by side.

    Runs that are finished there are taken as they are, and one that was stopped goes on.

    Args:
        what: is trained.
        overrides: settings for all of them.
        seeds: how many, from the config's own seed on.
        to: the folder.
        at_once: runs at a time; by default one for each CPU, or one where there is a GPU.
        on_done: called when a run is done, with its method and seed, and how many are of how many.

    Raises:
        AvilError: a setting or the folder cannot be used, or a finished run has other settings.
        Stopped: a signal came; runs that had begun were saved.
    """
    require_place(to)
    for override in overrides:
        if (name := override.partition("=")[0].strip()) in ("output_dir", "method"):
            raise AvilError(f"{name} is set, but a comparison sets it itself; leave it out")
    first = what.config(overrides).seed
    pairs = [(entrant, seed) for seed in range(first, first + seeds) for entrant in entrants]
    settings = {pair: _overrides(overrides, *pair, to) for pair in pairs}
    configs = {pair: what.config(settings[pair]) for pair in pairs}  # all are checked
    to_train = [
        pair
        for pair, config in configs.items()
        if not (is_done(_folder(to, *pair), config) or how_it_diverged(_folder(to, *pair), config))
    ]
    finished = len(pairs) - len(to_train)

    def done(number: int, _: Any) -> None:
        nonlocal finished
        finished += 1
        entrant, seed = to_train[number]
        on_done(entrant.name, seed, finished, len(pairs))

    jobs = [partial(_train, what, settings[pair], _folder(to, *pair)) for pair in to_train]
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
    comparison = compared(summaries, list(range(first, first + seeds)), to, diverged)
    write(comparison)
    return comparison


def _train(what: Trains, overrides: Sequence[str], folder: Path) -> None:
    """Train; a run that diverges leaves a sentence in its folder, as the others are worth going on for."""
    try:
        what.train(overrides)
    except Diverged as error:
        note_divergence(folder, what.config(overrides), str(error))


def _folder(to: Path, entrant: Entrant, seed: int) -> Path:
    return to / entrant.folder / f"seed-{seed}"


def _overrides(overrides: Sequence[str], entrant: Entrant, seed: int, to: Path) -> list[str]:
    saving = ["test_every_round=false", "log.tensorboard=false", "baselines=[]"]
    return [*saving, *overrides, *entrant.overrides, f"seed={seed}", f"output_dir={_folder(to, entrant, seed)}"]


def _at_once() -> int:
    import torch

    return 1 if torch.cuda.is_available() else cpus()
