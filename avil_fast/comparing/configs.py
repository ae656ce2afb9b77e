"""Several configs, trained one after the other and set side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avil_fast.comparing.finished import is_done
from avil_fast.config import load
from avil_fast.errors import AvilError
from avil_fast.names import repeated
from avil_fast.report.place import REPORT
from avil_fast.report.run import FinishedRun, read
from avil_fast.report.write import write
from avil_fast.run import launch


@dataclass(frozen=True)
class Compared:
    """The runs by name, and where their report lies."""

    runs: dict[str, FinishedRun]
    report: Path


def compare(configs: Sequence[Path], overrides: Sequence[str], to: Path, quiet: bool = False) -> Compared:
    """Train by each config in a folder of its own, and write the report of all.

    Runs that are finished there are taken as they are, and one that was stopped goes on.

    Args:
        configs: YAML files of different names, two or more.
        overrides: settings for all of them.
        to: the folder; a run lies in it under the name of its config.
        quiet: print nothing.

    Raises:
        AvilError: a config cannot be used, or a finished run has other settings.
    """
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
    done = {path: is_done(folder, load(path, settings[path])) for path, folder in folders.items()}  # all are read
    for path in configs:
        if not done[path]:
            launch.train(path, settings[path], resume="auto", quiet=quiet)
    report = write(list(folders.values()), to / REPORT)
    return Compared({folder.name: read(folder) for folder in folders.values()}, report)
