"""avil-fast inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avil_fast.errors import AvilError
from avil_fast.verbs.arguments import AsJson, show

WHAT_NEXT = "go on from another checkpoint with --resume auto"


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's folder, or a run's for its newest one.")],
    check: Annotated[bool, typer.Option(help="Read all of it and compare checksums.")] = True,
    as_json: AsJson = False,
) -> None:
    """Tell what a checkpoint is and whether it is whole.

    Example: avil-fast inspect runs/digits
    """
    from avil_fast.checkpoint.file_format import Damaged
    from avil_fast.checkpoint.inspect import find
    from avil_fast.checkpoint.inspect import inspect as look
    from avil_fast.console import Console

    path = find(checkpoint)
    try:
        found = look(path, check)
    except Damaged as error:
        raise AvilError(f"{error}; {WHAT_NEXT}") from error
    if as_json:
        show({"checkpoint": str(path)} | found.as_json())
    else:
        Console().checkpoint(path, found, check)
    if found.damage:
        raise AvilError(f"{', '.join(found.damage)}; {WHAT_NEXT}")
