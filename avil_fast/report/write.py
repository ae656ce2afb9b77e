"""The report of one run, or of several side by side, as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from avil_fast.errors import AvilError, reason
from avil_fast.files.replacing import write_whole
from avil_fast.report import page, several
from avil_fast.report.place import REPORT
from avil_fast.report.run import read


def write(folders: Sequence[Path], to: Path | None = None, diverged: Mapping[str, str] | None = None) -> Path:
    """Write the page of finished runs; where it lies.

    Args:
        folders: of the runs.
        to: the file; by default report.html in the one run, or in the folder above the first of several.
        diverged: runs that have no result, by name, and what was told; the page names them beside the others.

    Raises:
        AvilError: a folder holds no finished run, or the file cannot be written.
    """
    runs = [read(folder) for folder in folders]
    if len(runs) == 1 and not diverged:
        text = page.render(runs[0].summary, runs[0].history, runs[0].config)
        path = to or folders[0] / REPORT
    else:
        text = several.render(runs, diverged or {})
        path = to or folders[0].resolve().parent / REPORT
    if path.is_dir():
        raise AvilError(f"--to is {str(path)!r}, which is a folder; name a file, such as {path / REPORT}")
    try:
        write_whole(path, text)
    except OSError as error:
        raise AvilError(f"{str(path)!r} cannot be written: {reason(error)}; name another with --to") from error
    return path
