"""Several configs, trained one after the other and set side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avil_fast.comparing.finished import how_it_diverged, is_done, note_divergence, require_place
from avil_fast.config import load
from avil_fast.errors import AvilError, Diverged, told_in
from avil_fast.names import repeated
from avil_fast.report.place import REPORT
from avil_fast.report.run import FinishedRun, read
from avil_fast.report.write import write
from avil_fast.run import launch

_WORDS = {"go on with --resume auto": "the same command goes on", "with --resume auto": "with the same command"}
"""How to go on with one run, and how with all of them."""


@dataclass(frozen=True)
class Compared:
    """What came of the configs.

    Attributes:
        runs: those that finished, by name.
        diverged: of the others, what was told, by name.
        report: where it lies.
    """

    runs: dict[str, FinishedRun]
    diverged: dict[str, str]
    report: Path


def compare(configs: Sequence[Path], overrides: Sequence[str], to: Path, quiet: bool = False) -> Compared:
    """Train by each config in a folder of its own, and write the report of all.

    Runs that are finished there are taken as they are, and one that was stopped goes on. One that diverges leaves
    a sentence in its folder, and the others are trained.

    Args:
        configs: YAML files of different names, two or more.
        overrides: settings for all of them.
        to: the folder; a run lies in it under the name of its config.
        quiet: print nothing.

    Raises:
        AvilError: a config or the folder cannot be used, a finished run has other settings, or every run diverged.
        Stopped: a signal came; the run that it came in was saved.
    """
    require_place(to)
    names = [path.stem for path in configs]
    if len(configs) < 2:
        raise AvilError(
            f"compare needs two configs or more, but was given {len(configs)}; name another, or --methods"
        )
    if (twice := repeated(names)) is not None:
        raise AvilError(f"two configs are named {twice!r}, and so would their folders be; rename one")
    if any(override.partition("=")[0].strip() == "output_dir" for override in overrides):
        raise AvilError(f"output_dir is set, but each run gets a folder in --to, {str(to)!r}; leave it out")
    folders = {path: to / name for path, name in zip(configs, names, strict=True)}
    settings = {path: [*overrides, f"output_dir={folder}"] for path, folder in folders.items()}
    loaded = {path: load(path, settings[path]) for path in configs}  # all are checked before one is trained
    done = {path: is_done(folder, loaded[path]) for path, folder in folders.items()}
    noted = {path: how_it_diverged(folder, loaded[path]) for path, folder in folders.items() if not done[path]}
    diverged = {folders[path].name: sentence for path, sentence in noted.items() if sentence}
    for path, folder in folders.items():
        if done[path] or folder.name in diverged:
            continue
        try:
            with told_in(_WORDS):
                launch.train(path, settings[path], resume="auto", quiet=quiet)
        except Diverged as error:
            note_divergence(folder, loaded[path], str(error))
            diverged[folder.name] = str(error)
    finished = [folder for folder in folders.values() if folder.name not in diverged]
    if not finished:
        told_first = next(iter(diverged.values()))
        raise AvilError(f"every run diverged: {told_first}")
    report = write(finished, to / REPORT, diverged)
    return Compared({folder.name: read(folder) for folder in finished}, diverged, report)
