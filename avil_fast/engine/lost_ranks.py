"""Ranks that are gone or silent: how the others find out, and which of them tells of it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

from avil_fast.errors import RankLost

Value = TypeVar("Value")

LATE = ("Timed out", "timed out")
"""What torch's backends say when another rank does not answer."""

LEAVE = 2.0
"""Seconds that ranks have to leave word that they are there, once one of them does not answer."""

LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process")
"""What torch's backends say when another rank is gone."""


def is_late(error: BaseException) -> bool:
    """Whether a backend says that another rank does not answer."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in LATE)


def choose_reporter(error: BaseException) -> None:
    """Note on an error that ends the run whether this rank tells of it, for `should_report`."""
    error.__dict__["should_report"] = _asked(_first_to_tell, dist.get_rank() == 1)


def as_lost(error: BaseException, timeout: timedelta) -> RankLost | None:
    """What to say of an error that another rank's end or silence has brought about; None for any other error.

    Args:
        timeout: how long ranks wait for one another.
    """
    if is_late(error):
        return RankLost(_told_of_silence(timeout))
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST):
        return RankLost(
            "another rank has ended, so this run stops on all of them; where no rank has told why, look for a "
            "process that was killed, e.g. for want of memory"
        )
    return None


def _first_to_tell() -> bool:
    """Whether this rank is the first that has something to say about the end of the run.

    Leaves word that this rank is there, for `_told_of_silence`.
    """
    store = dist.distributed_c10d._get_default_store()  # where the ranks met
    store.set(f"avil_fast/there/{dist.get_rank()}", "")
    return int(store.add("avil_fast/told", 1)) == 1


def _told_of_silence(timeout: timedelta) -> str:
    """Which ranks do not answer, as far as the place where they met can tell."""

    def silent() -> list[int]:
        time.sleep(LEAVE)  # others may be about to leave word
        store = dist.distributed_c10d._get_default_store()
        return [rank for rank in range(dist.get_world_size()) if not store.check([f"avil_fast/there/{rank}"])]

    found: list[int] = _asked(silent, [])
    who = f"rank {', '.join(map(str, found))} has" if found else "another rank has"
    return (
        f"{who} not answered for {timeout.total_seconds():g} seconds, so this run stops on all of them; look "
        f"for a process that hangs or is slow, or set rank_timeout higher, and go on with --resume auto"
    )


def _asked(question: Callable[[], Value], otherwise: Value) -> Value:
    """The answer of the place where the ranks met; `otherwise` where it is gone, or hangs with the first rank."""
    answers: list[Value] = []

    def ask() -> None:
        with contextlib.suppress(RuntimeError):
            answers.append(question())

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(3 * LEAVE)
    return answers[0] if answers else otherwise


def should_report(error: BaseException) -> bool:
    """Whether this rank should tell of an error that ends the run, so that it is told once."""
    cause = error.__cause__ if isinstance(error, RankLost) else error
    told = vars(cause).get("should_report")
    # Before the ranks have met: one of each machine.
    return os.environ.get("LOCAL_RANK", "0") == "0" if told is None else bool(told)
