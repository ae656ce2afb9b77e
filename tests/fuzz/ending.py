"""How a case may end: well, or with one sentence; in time, and with no file written."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from avil_fast import cli
from avil_fast.errors import AvilError

SECONDS = 60
"""For a case that takes milliseconds on an idle machine."""

LONGEST = 2000
"""Characters of a sentence that somebody will read."""


class Hangs(BaseException):
    """A case takes too long."""


@contextmanager
def in_time() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ends(action: Callable[[], Any]) -> str | None:
    """What an action is refused with; None if it succeeds. Whatever else it raises is a bug."""
    with in_time():
        try:
            action()
        except AvilError as error:
            require_sentence(str(error))
            return str(error)
    return None


def require_sentence(text: str) -> None:
    assert text.isprintable(), f"more than a line, or not for a terminal: {text!r}"
    assert len(text) <= LONGEST, f"{len(text)} characters: {text[:LONGEST]}"


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str | None:
    """The same of avil-fast with these arguments, in this process: nothing but exit codes 0 and 2, the latter with
    one line on stderr."""
    with pytest.MonkeyPatch.context() as patch, in_time():
        patch.setattr("warnings.showwarning", None)  # main() sets it; this restores it
        patch.delenv("WORLD_SIZE", raising=False)
        patch.setattr(sys, "argv", ["avil-fast", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    _, err = capsys.readouterr()
    if not ended.value.code:
        return None
    assert ended.value.code == 2, err
    (line,) = (line for line in err.split("\n") if line and "warning: " not in line)
    require_sentence(line)
    return line.removeprefix("avil-fast: ")


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: bytes by name, None for a folder."""
    found = folder.rglob("*")
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}
