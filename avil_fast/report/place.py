"""The place of a run's folder: nothing of anybody else's is touched, and nothing finished is lost."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from avil_fast.checkpoint.folder import CHECKPOINTS, has_any
from avil_fast.errors import AvilError, reason
from avil_fast.files.lock import FolderLock

CONFIG, METRICS, SUMMARY, REPORT = "config.yaml", "metrics.jsonl", "summary.json", "report.html"
MODEL = Path("model") / "model.safetensors"

DIVERGED = "diverged.json"
"""Of a run in a comparison that did: what was told, and the settings."""

TRAINER_STATE = "trainer_state.json"
"""Trainer's name for its state, where it began the run."""

MARK = "# The settings of this run, written by avil-fast."
"""The first line of a run's config.yaml: one without it is somebody's own."""

_NAMES = {CONFIG, METRICS, SUMMARY, REPORT, MODEL.parent.name, CHECKPOINTS}
_NAMES |= {
    "adapter",
    DIVERGED,
    "task_vectors",
    "task_vectors.previous",
    "tensorboard",
    TRAINER_STATE,
}
"""Of what a run may leave in its folder, beside files and folders that are half-written."""


class RunPlace:
    """Take a folder for a run, as a context manager.

    A finished run that stands there already is set aside and comes back if the new one fails; a new
    folder that does not become a finished run by its own fault (bad input) is removed, unless there are
    checkpoints or a model in it. While one process writes into it, others are refused.

    Args:
        path: the folder; new, empty, or holding an earlier run and nothing else.
        overwrite: replace a finished run, or one that could go on.
        resume: go on with the run that stands there, if it has checkpoints.

    Raises:
        AvilError: the folder cannot be taken.
    """

    def __init__(self, path: Path, overwrite: bool, resume: bool = False) -> None:
        if path.name in ("", ".."):
            raise AvilError(f"output_dir is {str(path)!r}, but must name a folder of its own, e.g. runs/digits")
        self.path = path.resolve() if path.is_symlink() else path  # a link stays where it is
        self.goes_on = False
        self._overwrite, self._resume = overwrite, resume
        self._aside = self.path.with_name(self.path.name + ".previous")
        self._lock = FolderLock()
        self._made: list[Path] = []
        """Folders that were not there before, the innermost first."""
        self._has_model = False
        """The trained model is there, whole."""
        with self._told():
            self._check()
            self._lock.release()  # until the run begins

    def __enter__(self) -> Self:
        with self._told():
            self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            self._check()  # again, as it is locked now
            if not self.goes_on:
                self._clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if (self.path / SUMMARY).is_file():
                shutil.rmtree(self._aside, ignore_errors=True)
            elif not (self._has_model or _holds_checkpoints(self.path)) and (
                isinstance(error, Exception) or self._aside.is_dir()
            ):
                self._undo()
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the file system in one sentence; the lock is held only if there was none."""
        try:
            yield
        except OSError as error:
            self._lock.release()
            raise AvilError(
                f"output_dir {str(self.path)!r} cannot be used: {reason(error)}; set another one"
            ) from error
        except AvilError:
            self._lock.release()
            raise

    def _check(self) -> None:
        """Lock the folder, if there is one, and refuse what must not be replaced."""
        path, aside = self.path, self._aside
        if path.exists() and not path.is_dir():
            raise AvilError(f"output_dir is {str(path)!r}, but that is a file; name a folder")
        if path.is_dir() and not self._lock.take(path):
            raise AvilError(
                f"output_dir is {str(path)!r}, which another run is writing now; wait for its end, or name another"
            )
        self.goes_on = self._resume and has_any(path)
        if self.goes_on:
            return
        if path.is_dir() and (strange := _strange(path)):
            raise AvilError(
                f"output_dir is {str(path)!r}, which holds files that are no run's, such as {strange!r}; "
                f"name another"
            )
        if aside.exists() and (not aside.is_dir() or _strange(aside)):
            raise AvilError(f"{str(aside)!r} is in the way of output_dir and is no run; move it")
        if not self._overwrite:
            self._require_nothing_to_lose()

    def _require_nothing_to_lose(self) -> None:
        path, aside = self.path, self._aside
        if any((held / SUMMARY).is_file() for held in (path, aside)):
            raise AvilError(
                f"output_dir is {str(path)!r}, which holds a finished run; name another, or set overwrite=true"
            )
        if has_any(aside):
            raise AvilError(
                f"{str(aside)!r} holds a run that a new one set aside; move it back to {str(path)!r} to go on "
                f"with it, or set overwrite=true"
            )
        if has_any(path):
            raise AvilError(
                f"output_dir is {str(path)!r}, which holds a run that was stopped; go on with --resume auto, or "
                f"start anew with overwrite=true"
            )
        for held in (path, aside):
            if _holds_checkpoints(held):
                raise AvilError(
                    f"{str(held)!r} holds a run whose checkpoints are not whole, so that it cannot go on; "
                    f"move it, or set overwrite=true to remove it"
                )
            if (held / MODEL.parent).exists():
                raise AvilError(
                    f"{str(held)!r} holds a trained model, but not the end of its run; move it, or set "
                    f"overwrite=true to remove it"
                )

    def _clear(self) -> None:
        """Make the folder empty; of what was there and what was aside, the better is aside."""
        if any(self.path.iterdir()):
            if _worth(self._aside) > _worth(self.path):
                shutil.rmtree(self.path)
            else:
                shutil.rmtree(self._aside, ignore_errors=True)
                self.path.rename(self._aside)
            self.path.mkdir()
            self._check()  # it is another folder, which is not locked yet

    def _undo(self) -> None:
        """Leave the place as it was before, as far as that can be done: what failed is told, not this."""
        for held in list(self.path.iterdir()):
            with contextlib.suppress(OSError):
                shutil.rmtree(held) if held.is_dir() else held.unlink()
        with contextlib.suppress(OSError):
            if self._aside.is_dir():
                self.path.rmdir()
                self._aside.rename(self.path)
            for folder in self._made:
                folder.rmdir()  # fails where another run's folder is in it


def _strange(path: Path) -> str:
    """The name of something in a folder that no run left there; empty if there is none."""
    names = sorted(held.name for held in path.iterdir())
    foreign = [name for name in names if name not in _NAMES and not name.endswith(".partial")]
    if not foreign and CONFIG in names and not _is_marked(path / CONFIG):
        foreign = [CONFIG]
    return next(iter(foreign), "")


def _is_marked(config: Path) -> bool:
    with config.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline().rstrip("\n") == MARK


def _holds_checkpoints(path: Path) -> bool:
    """Whether a checkpoint is there, even one without its manifest: none is removed unasked."""
    return any((path / CHECKPOINTS).glob("**/checkpoint-*"))


def _worth(path: Path) -> int:
    """Of what lies in a folder: a finished run is worth most, then one that can go on."""
    return 2 if (path / SUMMARY).is_file() else int(_holds_checkpoints(path))
