"""A checkpoint that is being written: this rank's files of it, in a thread if there is a copy to write from."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from avil_fast.checkpoint.file_format import Record
from avil_fast.checkpoint.host_copies import HostCopies
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.writing import Entry, write
from avil_fast.engine.state import Snapshot
from avil_fast.errors import reason


class Pending:
    """A checkpoint that this rank is writing its files of."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        best: Snapshot | None,
        files: dict[str, list[Entry]],
        linked: dict[str, tuple[Path, Record]],
        copies: HostCopies | None,
    ) -> None:
        self.folder, self.manifest = folder, manifest
        self.best = best  # held until its file is written: it is written without a copy, and its memory used again
        self.records: dict[str, Record] = {}
        self.problem = ""
        self.nbytes = 0
        self._files, self._linked = files, linked
        self._thread: threading.Thread | None = None
        if copies is not None:
            self._files = {
                name: entries if name.startswith("best-") else [copies.of(entry) for entry in entries]
                for name, entries in files.items()
            }
            self._thread = threading.Thread(target=self._write, name="checkpoint")
            self._thread.start()
        else:
            self._write()

    @property
    def writing(self) -> bool:
        """Whether the thread still writes; False without one."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Until this rank's files are written, or writing them has failed; see `problem`."""
        if self._thread is not None:
            self._thread.join()

    def _write(self) -> None:
        try:
            for name, entries in self._files.items():
                self.records[name] = self._link(name) or self._write_file(name, entries)
        except OSError as error:
            self.problem = reason(error)
        except Exception as error:  # in a thread of its own it would end that alone
            self.problem = f"{type(error).__name__}: {error}"
        self._files = {}

    def _link(self, name: str) -> Record | None:
        """Another checkpoint's file, if it is the same; None if it cannot be had."""
        if name not in self._linked:
            return None
        folder, record = self._linked[name]
        try:
            os.link(folder / name, self.folder / name)
        except OSError:  # removed meanwhile, or a file system without links
            return None
        return record

    def _write_file(self, name: str, entries: list[Entry]) -> Record:
        record = write(self.folder / name, entries)
        self.nbytes += record.nbytes
        return record
