"""avil-fast export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avil_fast.verbs.arguments import RunArgument


def export(
    run: RunArgument,
    to: Annotated[Path | None, typer.Option(help="A new folder; by default RUN-export.")] = None,
    task_vectors: Annotated[
        bool, typer.Option("--task-vectors", help="Also export every task's model, for tools that merge.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace whatever is in the folder.")] = False,
) -> None:
    """Write a finished run's model as others load it, with a model card.

    Example: avil-fast export runs/digits --overwrite
    """
    from avil_fast.exporting import export as write

    named = run.resolve() if run.name in ("", "..") else run
    folder = to or named.with_name(f"{named.name}-export")
    files = write(run, folder, task_vectors=task_vectors, overwrite=overwrite)
    print(f"{folder}: {len(files)} files; its README.md tells how to load the model")
