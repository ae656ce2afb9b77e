"""One process at a time writes into a run's folder."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: no locks
    fcntl = None  # type: ignore[assignment]


class FolderLock:
    """An advisory lock on a folder, which ends with the process that holds it, however it ends.

    Its forks do not hold it: a worker of a DataLoader may outlive a process that was killed. File systems that
    cannot lock folders let everybody in.
    """

    def __init__(self) -> None:
        self._held: list[int] = []
        _locks.add(self)

    def take(self, folder: Path) -> bool:
        """Hold the lock of a folder, beside those that are held already; whether nobody else holds it."""
        if fcntl is None:
            return True
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except OSError:  # whoever writes into it will say why
            return True
        if any(os.path.sameopenfile(descriptor, held) for held in self._held):
            os.close(descriptor)
            return True
        self._held.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system that knows no such locks
            return True
        return True

    def release(self) -> None:
        """Let go of all; does nothing a second time."""
        while self._held:
            os.close(self._held.pop())


_locks: weakref.WeakSet[FolderLock] = weakref.WeakSet()
"""Those of this process."""


def _release_in_fork() -> None:
    for lock in _locks:
        lock.release()  # the parent's descriptor goes on holding it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_fork)
