"""avil-fast report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    to: Annotated[
        Path | None, typer.Option(help="The file; by default report.html in the run, or in the folder of all.")
    ] = None,
) -> None:
    """Write the report of a run anew, or one of several side by side.

    Example: avil-fast report runs/digits
    """
    from avil_fast.report.write import write

    print(write(runs, to))
