"""The lock on a run's folder, and forks of the process that holds it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avil_fast.files.lock import FolderLock

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="for POSIX"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # of a process with threads
]


@contextlib.contextmanager
def forked(works: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """A fork that lives as long as the context and finds that something works there."""
    ready, go_on = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b".")
        os.read(go_on[0], 1)
        os._exit(0 if works() else 1)
    try:
        os.read(ready[0], 1)
        yield
    finally:
        os.write(go_on[1], b".")
        status = os.waitpid(child, 0)[1]
        for end in (*ready, *go_on):
            os.close(end)
    assert status == 0


def test_a_fork_does_not_hold_the_lock(tmp_path: Path) -> None:
    lock, other = FolderLock(), FolderLock()
    assert lock.take(tmp_path)
    with forked():
        assert not other.take(tmp_path)  # this process still does
        other.release()
        lock.release()  # as if this process had been killed
        assert other.take(tmp_path)
    other.release()


def test_a_fork_closes_nothing_that_was_released_before(tmp_path: Path) -> None:
    lock = FolderLock()
    assert lock.take(tmp_path)
    (held,) = lock._held
    lock.release()
    (tmp_path / "file").write_bytes(b"whole")
    reused = os.open(tmp_path / "file", os.O_RDONLY)
    assert reused == held
    with forked(lambda: os.read(reused, 5) == b"whole"):
        pass
    os.close(reused)
