"""A run's folder: what is in it, and that nothing finished is lost and nothing half-written is left."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safetensors import SafetensorError
from torch import Tensor

from avil_fast.checkpoint.folder import CHECKPOINTS, has_any
from avil_fast.errors import AvilError, reason
from avil_fast.files.lock import FolderLock
from avil_fast.files.replacing import write_whole
from avil_fast.report.weights import write_weights
from avil_fast.tasks.model_format import ModelFormat

CONFIG, METRICS, SUMMARY, REPORT = "config.yaml", "metrics.jsonl", "summary.json", "report.html"
MODEL = Path("model") / "model.safetensors"


class RunFolder:
    """Write a run into a folder, as a context manager.

    A finished run that stands there already is set aside and comes back if the new one fails; a new
    folder that does not become a finished run by its own fault (bad input) is removed, unless there are
    checkpoints in it. While one process writes into it, others are refused.

    Args:
        path: the folder; new, empty, or holding an earlier run.
        overwrite: replace a finished run, or one that could go on.
        resume: go on with the run that stands there, if it has checkpoints.
    """

    def __init__(self, path: Path, overwrite: bool, resume: bool = False) -> None:
        self.path = path
        if path.name in ("", ".."):
            raise AvilError(f"output_dir is {str(path)!r}, but must name a folder of its own, e.g. runs/digits")
        self._aside = path.with_name(path.name + ".previous")
        self._lines: list[str] = []
        """Of metrics, that could not be written yet."""
        self._lock = FolderLock()
        self._parents = [parent for parent in path.parents if not parent.exists()]
        if path.exists() and not path.is_dir():
            raise AvilError(f"output_dir is {str(path)!r}, but that is a file; name a folder")
        if path.is_dir() and any(path.iterdir()) and not (path / CONFIG).is_file():
            raise AvilError(f"output_dir is {str(path)!r}, which holds files that are no run; name another")
        if self._aside.exists() and not (self._aside / CONFIG).is_file():
            raise AvilError(f"{str(self._aside)!r} is in the way of output_dir and is no run; move it")
        self.goes_on = resume and has_any(path)
        self._require_idle()
        self._lock.release()  # until the run begins
        if self.goes_on or overwrite:
            return
        if any((held / SUMMARY).is_file() for held in (path, self._aside)):
            raise AvilError(
                f"output_dir is {str(path)!r}, which holds a finished run; name another, or set overwrite=true"
            )
        if has_any(self._aside):
            raise AvilError(
                f"{str(self._aside)!r} holds a run that a new one set aside; move it back to {str(path)!r} to go "
                f"on with it, or set overwrite=true"
            )
        if has_any(path):
            raise AvilError(
                f"output_dir is {str(path)!r}, which holds a run that was stopped; go on with --resume auto, or "
                f"start anew with overwrite=true"
            )
        for held in (path, self._aside):
            if _holds_checkpoints(held):
                raise AvilError(
                    f"{str(held)!r} holds a run whose checkpoints are not whole, so that it cannot go on; "
                    f"move it, or set overwrite=true to remove it"
                )

    def __enter__(self) -> Self:
        try:
            self._require_idle()
            if self.goes_on:
                return self
            if _is_worth_keeping(self._aside) and not _is_worth_keeping(self.path):
                # A run that was killed early left the one before it aside: keep that one.
                shutil.rmtree(self.path, ignore_errors=True)
            elif self.path.is_dir() and any(self.path.iterdir()):
                shutil.rmtree(self._aside, ignore_errors=True)
                self.path.rename(self._aside)
            self.path.mkdir(parents=True, exist_ok=True)
            self._require_idle()  # it is another folder now
        except OSError as error:
            self._lock.release()
            raise AvilError(
                f"output_dir {str(self.path)!r} cannot be made: {reason(error)}; set another one"
            ) from error
        return self

    def _require_idle(self) -> None:
        """Lock the folder, if there is one; refuse it while another process writes into it."""
        if self.path.is_dir() and not self._lock.take(self.path):
            self._lock.release()
            raise AvilError(
                f"output_dir is {str(self.path)!r}, which another run is writing now; wait for its end, or name "
                f"another"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if (self.path / SUMMARY).is_file():
                shutil.rmtree(self._aside, ignore_errors=True)
            elif not _holds_checkpoints(self.path) and (isinstance(error, Exception) or self._aside.is_dir()):
                self._undo()
        finally:
            self._lock.release()

    def _undo(self) -> None:
        """Leave the place as it was before."""
        shutil.rmtree(self.path)
        if self._aside.is_dir():
            self._aside.rename(self.path)
        for parent in self._parents:
            with contextlib.suppress(OSError):  # not empty: another run's
                parent.rmdir()

    def write_config(self, text: str) -> None:
        """Write the settings, by which a folder is known to be a run's.

        Raises:
            AvilError: the folder cannot be written.
        """
        try:
            write_whole(self.path / CONFIG, text)
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
        report: str,
        summary: dict[str, Any],
        model_format: ModelFormat | None = None,
    ) -> None:
        """Write what a run came to; a folder with a summary, which is last, holds a finished run.

        Args:
            tensors: parameters and buffers, tied ones once.
            report: HTML.
            model_format: what becomes of their names, and what lies beside them.

        Raises:
            AvilError: the disk is full, or the like.
        """
        try:
            model_format, folder = model_format or ModelFormat(), self.path / MODEL.parent
            write_weights(folder, model_format.tensors(tensors))
            model_format.write(folder)
            write_whole(self.path / REPORT, report)
            write_whole(self.path / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
        except (OSError, SafetensorError) as error:
            what_next = "go on with --resume auto" if has_any(self.path) else "run it again"
            raise AvilError(
                f"{str(self.path)!r} cannot be written: {reason(error)}; make room and {what_next}"
            ) from error


def _holds_checkpoints(path: Path) -> bool:
    """Whether a checkpoint is there, even one without its manifest: none is removed unasked."""
    return any((path / CHECKPOINTS).glob("**/checkpoint-*"))


def _is_worth_keeping(path: Path) -> bool:
    return (path / SUMMARY).is_file() or _holds_checkpoints(path)
