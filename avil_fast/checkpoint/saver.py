"""Saves a run at its points: when it is time, and when it is told to stop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch

from avil_fast.checkpoint.entries import of_model, sharded
from avil_fast.checkpoint.file_format import Record
from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.host_copies import HostCopies, fits
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.pending import Pending
from avil_fast.checkpoint.retention import Retention
from avil_fast.checkpoint.stop import Stop
from avil_fast.checkpoint.writing import Entry
from avil_fast.engine.base import Engine
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.state import EngineState, Snapshot
from avil_fast.errors import Stopped, reason

if TYPE_CHECKING:
    from avil_fast.config import CheckpointsConfig


@dataclass(frozen=True)
class RunState:
    """What a checkpoint holds beside the engine's state."""

    where: dict[str, Any]
    """Round, phase, task and step, for people."""
    run: dict[str, Any]
    """The run's own state. Both in JSON's types."""
    best: Snapshot | None
    """The best model so far."""


class Saver:
    """Writes checkpoints in a thread, from a copy of the state, if CPU memory has room for one.

    Every rank writes files of its own. At the first point where all have written, the first rank writes the
    manifest and gives the folder its name.

    Args:
        folder: of the run's checkpoints.
        engine: whose state is saved.
        ranks: that train together.
        config: when, and how many are kept.
        stop: the signal that ends the run, once it is noted.
        about: what manifests tell besides the state: fields of `Manifest`.
    """

    def __init__(
        self,
        folder: Folder,
        engine: Engine,
        ranks: Ranks,
        config: CheckpointsConfig,
        stop: Stop,
        about: dict[str, Any],
    ) -> None:
        self.saved = 0
        """Checkpoints that were made."""
        self.nbytes = 0
        """Bytes that this rank wrote for them."""
        self.seconds = 0.0
        """For which training was held up."""
        self._folder, self._engine, self._ranks, self._config, self._stop = folder, engine, ranks, config, stop
        self._about = about
        self._placement, self._frozen = engine.placement(), engine.frozen()
        self._last = time.monotonic()
        self._pending: Pending | None = None
        self._copies = HostCopies()
        self._retention = Retention(folder, config.keep)
        self._bests: list[tuple[Path, ref[Snapshot], Record]] = []
        """Of the last two checkpoints: their folder, the best model, which is not kept for this, and this rank's
        file of it."""

    @property
    def saves_periodically(self) -> bool:
        """Whether it saves before it is told to stop."""
        return self._config.minutes is not None

    def point(self, state: Callable[[], RunState]) -> None:
        """Save here if it is time to. All ranks call it, between any two of the engine's methods.

        Raises:
            Stopped: a signal was noted on some rank; the run has been saved.
        """
        minutes = self._config.minutes
        due = minutes is not None and time.monotonic() - self._last >= 60 * minutes
        writing = self._pending is not None and self._pending.writing
        asked, busy = self._ranks.max(self._stop.signal or int(due and self._ranks.first), int(writing))
        stopping = asked > 1
        written = self._pending is not None and (stopping or not busy)
        if not written and (not asked or self._pending):
            return  # without having waited for a GPU, as `_holding` does
        with self._holding():
            if written:
                self._commit()
            if asked:
                self._begin(state(), self._config.background and not stopping)
            if stopping:
                raise Stopped(asked, self._how_to_go_on(self._commit()))

    def save(self, state: RunState, lasting: bool = False) -> None:
        """Save now, whenever the last time was."""
        with self._holding():
            self.finish()
            self._begin(state, self._config.background, lasting)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        began = time.perf_counter()
        with self._engine.spend("checkpoints"):
            yield
        self.seconds += time.perf_counter() - began

    def finish(self) -> None:
        """Wait for what is being written."""
        if self._pending:
            self._commit()

    def abandon(self) -> None:
        """`finish` after a failure, when other ranks may be elsewhere: what they have a part of is given up."""
        if self._pending and self._ranks.size == 1:
            self._commit()
        elif self._pending:
            self._pending.wait()

    def _begin(self, now: RunState, background: bool, lasting: bool = False) -> None:
        self._last = time.monotonic()
        outcome: tuple[str | None, str] = self._ranks.on_first(self._make_folder)
        partial, problem = outcome
        if partial is None:
            self._failed(problem)
            return
        state = self._engine.state()
        manifest = Manifest(
            saved=datetime.now(UTC).isoformat(timespec="seconds"),
            ranks=self._ranks.size,
            parameters=self._placement.parameters,
            buffers=self._engine.buffers(),
            frozen=self._frozen,
            facts=state.facts,
            where=now.where,
            lasting=lasting,
            run=now.run,
            files={},
            **self._about,
        )
        rank = f"{self._ranks.rank:05}.safetensors"
        files = {f"own-{rank}": self._small(state), f"rank-{rank}": sharded(state)}
        linked: dict[str, tuple[Path, Record]] = {}
        if now.best is not None:
            files[f"best-{rank}"] = of_model(now.best, with_buffers=self._ranks.first)
            # Neighbours never share a file, so that damage to one leaves the one before.
            back = min(2, self._config.keep)
            if len(self._bests) >= back and self._bests[-back][1]() is now.best:
                linked[f"best-{rank}"] = self._bests[-back][0], self._bests[-back][2]
        copied = sum(entry.nbytes for entry in (*files[f"own-{rank}"], *files[f"rank-{rank}"]))
        room = background and fits(copied - self._copies.nbytes)
        copies = self._copies if room else None
        self._pending = Pending(Path(partial), manifest, now.best, files, linked, copies)

    def _make_folder(self) -> tuple[str | None, str]:
        try:
            return str(self._folder.begin()), ""
        except OSError as error:
            return None, reason(error)

    def _small(self, state: EngineState) -> list[Entry]:
        """What other ranks may have to read whole."""
        entries = [
            Entry("slices", [self._placement.slices]),
            Entry("sizes", [torch.tensor(self._placement.sizes, dtype=torch.int64)]),
        ]
        if self._ranks.first:
            entries += [Entry(f"common/{name}", [tensor]) for name, tensor in state.common.items()]
        return entries + [Entry(f"own/{name}", [tensor]) for name, tensor in state.own.items()]

    def _commit(self) -> Path | None:
        """Wait for this rank's files, and make a checkpoint of all ranks'; its folder, or None if it failed."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        pending.wait()
        written = self._ranks.gather((pending.records, pending.problem))
        problem = next((text for _, text in written if text), "")
        finished: Path | None = None
        if not problem:
            records = {name: record for of_rank, _ in written for name, record in of_rank.items()}
            path, problem = self._ranks.on_first(lambda: self._finish(pending, records))
            finished = None if path is None else Path(path)
        if finished is None:
            if self._ranks.first:
                self._folder.discard(pending.folder)
            self._failed(problem)
            return None
        self.saved += 1
        self.nbytes += pending.nbytes
        best = next((record for name, record in pending.records.items() if name.startswith("best-")), None)
        if best is None or pending.best is None:
            self._bests = []
        else:
            self._bests = [*self._bests[-1:], (finished, ref(pending.best), best)]
        return finished

    def _finish(self, pending: Pending, records: dict[str, Record]) -> tuple[str | None, str]:
        try:
            for name, record in records.items():
                size = (pending.folder / name).stat().st_size  # of another machine's, if the folder is not shared
                if size != record.nbytes:
                    return None, f"{name} has {size} bytes instead of {record.nbytes}"
            pending.manifest.files.update(records)
            pending.manifest.write(pending.folder)
            finished = self._folder.finish(pending.folder)
        except FileNotFoundError as error:
            return None, f"{error.filename} is missing; output_dir must be a folder that all machines share"
        except OSError as error:
            return None, reason(error)
        except ValueError as error:  # JSON has no word for a norm that is not finite
            return None, f"a number is not finite ({error})"
        self._retention.made(finished, pending.manifest.lasting)
        return str(finished), ""

    def _how_to_go_on(self, saved: Path | None) -> str:
        if saved:
            return f"saved as {saved}; go on with --resume auto"
        last = self._folder.all()[-1:]
        return (
            f"it could not be saved; go on from {last[0]} with --resume auto" if last else "it could not be saved"
        )

    def _failed(self, problem: str) -> None:
        if self._ranks.first:
            left = self._folder.all()
            last = f"the last one is {left[-1].name}" if left else "there is none yet"
            warnings.warn(
                f"a checkpoint could not be saved in {str(self._folder.path)!r}: {problem}; training "
                f"goes on, {last}",
                stacklevel=2,
            )
