"""The life of the process group: how the ranks that a launcher started meet, and how they leave one another."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from avil_fast.engine.lost_ranks import as_lost, choose_reporter, is_late
from avil_fast.engine.ranks import ALONE, Ranks
from avil_fast.errors import AvilError, RankLost

GONE = "avil_fast/gone"
"""Counts the ranks that have left."""

FAREWELL = 5.0
"""Seconds that the first rank waits for the others to leave."""


@dataclass
class _State:
    """Of this process."""

    timeout: timedelta | None = None
    """How long ranks wait for one another; None until they have met here. They stay together for the next run:
    DeepSpeed keeps their groups."""
    running: bool = False
    """A run is going on."""

    @property
    def met(self) -> bool:
        """Whether the ranks have met here."""
        return self.timeout is not None


_state = _State()


def started() -> int:
    """How many ranks the launcher (deepspeed, torchrun) started; 1 without one.

    Raises:
        AvilError: WORLD_SIZE is no number of ranks.
    """
    return _number("WORLD_SIZE", 1, at_least=1)


def _number(variable: str, otherwise: int, at_least: int = 0) -> int:
    """What a launcher has put into the environment; `otherwise` without one."""
    said = os.environ.get(variable, str(otherwise))
    if not said.isdecimal() or int(said) < at_least:
        raise AvilError(
            f"{variable} is {said!r}, but must be a whole number from {at_least} on; start the ranks with "
            f"deepspeed or torchrun, or unset it"
        )
    return int(said)


def local_device(device: torch.device) -> torch.device:
    """The device of this rank: the launcher's LOCAL_RANK chooses among a machine's GPUs.

    Raises:
        AvilError: there are fewer GPUs than ranks on this machine, or LOCAL_RANK is no number.
    """
    if device.type != "cuda":
        return device
    local, gpus = _number("LOCAL_RANK", 0), torch.cuda.device_count()
    here = _number("LOCAL_WORLD_SIZE", local + 1)  # so that all of them refuse
    if here > gpus:
        raise AvilError(
            f"{here} ranks were started on this machine, but it has {gpus} GPUs; start {gpus}, or set device=cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextlib.contextmanager
def joined_ranks(device: torch.device, timeout: float, always: bool = False) -> Iterator[Ranks]:
    """The ranks that a launcher started, joined for as long as the context lasts; one alone without a launcher.

    Args:
        device: of this rank.
        timeout: seconds that ranks wait for one another; that of the first run in a process counts.
        always: join even a single rank to itself, as DeepSpeed needs it.

    Raises:
        AvilError: the environment says that there are more ranks, and not where they meet.
        RankLost: another rank has ended or does not answer.
    """
    if _state.running or (dist.is_initialized() and not _state.met):
        yield _ranks() if dist.is_initialized() else ALONE
        return
    if started() == 1 and not always and not _state.met:
        yield ALONE
        return
    _join(device, timedelta(seconds=timeout))
    _state.running = True
    try:
        yield _ranks()
    except BaseException as error:
        # The other ranks wait for this one: leave without a farewell, and they end too.
        atexit.unregister(_leave)
        choose_reporter(error)
        assert _state.timeout is not None
        if (lost := as_lost(error, _state.timeout)) is not None:
            raise lost.with_traceback(None) from error
        raise
    finally:
        _state.running = False


def _ranks() -> Ranks:
    return Ranks(dist.get_rank(), dist.get_world_size(), _state.timeout)


def _join(device: torch.device, timeout: timedelta) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if _state.met:
        return
    if started() > 1:
        _require_meeting_place()
    backend = "nccl" if device.type == "cuda" else "gloo"
    here = device if device.type == "cuda" else None
    if "MASTER_ADDR" in os.environ:
        try:
            dist.init_process_group(backend, timeout=timeout, device_id=here)
        except RuntimeError as error:
            if not is_late(error):
                raise
            raise RankLost(
                f"not all of the {started()} ranks have met within {timeout.total_seconds():g} seconds; look for "
                f"one that did not start, or set rank_timeout higher"
            ) from error
    else:
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed looks for it
        store = dist.HashStore()  # type: ignore[attr-defined]  # public, but not in torch's list of exports
        dist.init_process_group(backend, store=store, rank=0, world_size=1, device_id=here)
    _state.timeout = timeout
    atexit.register(_leave)


def _require_meeting_place() -> None:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise AvilError(
            f"WORLD_SIZE is {started()}, but {', '.join(missing)} is not set, so the ranks cannot meet; start "
            f"them with deepspeed or torchrun, or unset WORLD_SIZE"
        )


def _leave() -> None:
    """The first rank leaves last: the place where they met may be its own, and ends with it."""
    if not dist.is_initialized():
        return
    rank, others = dist.get_rank(), dist.get_world_size() - 1
    store = dist.distributed_c10d._get_default_store()
    if rank == 0:
        deadline = time.monotonic() + FAREWELL
        while int(store.add(GONE, 0)) < others and time.monotonic() < deadline:
            time.sleep(0.005)
    dist.destroy_process_group()
    if rank != 0:
        with contextlib.suppress(RuntimeError):  # the first one waited no longer
            store.add(GONE, 1)
