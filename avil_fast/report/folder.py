"""A run's folder: what is in it, and that nothing half-written is left."""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from avil_fast.checkpoint.folder import has_any
from avil_fast.errors import AvilError, reason
from avil_fast.files.replacing import write_whole
from avil_fast.report.place import CONFIG, MARK, METRICS, MODEL, REPORT, SUMMARY, RunPlace
from avil_fast.report.weights import write_weights
from avil_fast.tasks.model_format import ModelFormat


class RunFolder(RunPlace):
    """Write a run into a folder that was taken for it; arguments and errors are those of `RunPlace`."""

    def __init__(self, path: Path, overwrite: bool, resume: bool = False) -> None:
        super().__init__(path, overwrite, resume)
        self._lines: list[str] = []
        """Of metrics, that could not be written yet."""

    def write_config(self, text: str) -> None:
        """Write the settings, by which a folder is known to be a run's.

        Raises:
            AvilError: the folder cannot be written.
        """
        try:
            write_whole(self.path / CONFIG, f"{MARK}\n{text}")
        except OSError as error:
            raise AvilError(
                f"output_dir {str(self.path)!r} cannot be written: {reason(error)}; set another one, or make room"
            ) from error

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a round's line; a reader never sees half of one. Where the disk is full, a later call adds it."""
        self._lines.append(json.dumps(row, allow_nan=False) + "\n")
        path = self.path / METRICS
        try:
            with path.open("ab", buffering=0) as file:
                whole = file.tell()
                text = "".join(self._lines).encode()
                if file.write(text) != len(text):
                    file.truncate(whole)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if len(self._lines) == 1:
                warnings.warn(f"{str(path)!r} cannot be written: {reason(error)}; training goes on", stacklevel=2)
        else:
            self._lines = []

    def begin(self, config: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write what is known at the start; from now on the folder holds no finished run until `write_result`.

        Raises:
            AvilError: the disk is full, or the like.
        """
        self.write_config(config)
        try:
            self.write_metrics(rows)
            (self.path / SUMMARY).unlink(missing_ok=True)
        except OSError as error:
            raise AvilError(f"{str(self.path)!r} cannot be written: {reason(error)}; make room") from error

    def write_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write all lines anew: those of a run that goes on from an earlier round."""
        write_whole(self.path / METRICS, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))

    def write_result(
        self,
        tensors: Iterable[tuple[str, Tensor]],
        report: Callable[[], str],
        summary: dict[str, Any],
        model_format: ModelFormat | None = None,
    ) -> None:
        """Write what a run came to; a folder with a summary, which is last, holds a finished run.

        Args:
            tensors: parameters and buffers, tied ones once.
            report: draws the page, once the model is there; one that cannot be drawn is warned of.
            model_format: what becomes of their names, and what lies beside them.

        Raises:
            AvilError: the disk is full, or the like.
        """
        try:
            model_format, folder = model_format or ModelFormat(), self.path / MODEL.parent
            write_weights(folder, model_format.tensors(tensors))
            model_format.write(folder)
            self._has_model = True
            if (page := _drawn(report)) is not None:
                write_whole(self.path / REPORT, page)
            write_whole(self.path / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
        except (OSError, SafetensorError) as error:
            what_next = "go on with --resume auto" if has_any(self.path) else "run it again"
            if self._has_model:
                what_next += f"; the trained model is in {str(folder)!r}"
            raise AvilError(
                f"{str(self.path)!r} cannot be written: {reason(error)}; make room and {what_next}"
            ) from error


def _drawn(report: Callable[[], str]) -> str | None:
    try:
        return report()
    except Exception as error:  # of whatever kind: a page is no reason to lose a model
        warnings.warn(f"the report cannot be drawn ({type(error).__name__}: {reason(error)})", stacklevel=2)
        return None
