"""The ranks of a run: processes that train together, each on its share of every batch."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from avil_fast.errors import AvilError, RankLost

Value = TypeVar("Value")

TIMEOUT = 600.0
"""Seconds that a rank waits for the others in a collective: the first round of a large model may load so long."""

LATE = ("Timed out", "timed out")
"""What torch's backends say when another rank does not answer."""

LEAVE = 2.0
"""Seconds that ranks have to leave word that they are there, once one of them does not answer."""

LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process")
"""What torch's backends say when another rank is gone."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among the others; every method is called by all ranks alike."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes files and speaks for all."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up `tensor` over the ranks, in place; the same bits on all."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean_(self, tensor: Tensor) -> Tensor:
        """The mean of a floating tensor over the ranks, in place."""
        return self.sum_(tensor).div_(self.size) if self.size > 1 else tensor

    def from_first_(self, tensor: Tensor) -> None:
        """Fill `tensor` with the first rank's; one of no elements is ZeRO's, which sees to it."""
        if self.size > 1 and tensor.numel():
            whole = tensor.contiguous()
            dist.broadcast(whole.view(-1).view(torch.uint8), src=0)  # gloo knows few dtypes
            if whole is not tensor:
                tensor.copy_(whole)

    def gather_(self, whole: Tensor) -> None:
        """Fill `whole`, one of `size` equal parts of which every rank holds, with the others' parts."""
        if self.size > 1:
            dist.all_gather_into_tensor(whole, whole.chunk(self.size)[self.rank].clone())

    def on_first(self, action: Callable[[], Value]) -> Value:
        """What `action` returns on the first rank, or the `AvilError` that it raises there, on all ranks."""
        if self.size == 1:
            return action()
        outcome: list[Any] = [None, None]
        if self.first:
            try:
                outcome[0] = action()
            except AvilError as error:
                outcome[1] = str(error)
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise AvilError(outcome[1])
        value: Value = outcome[0]
        return value

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, on all ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def max(self, *numbers: int) -> list[int]:
        """The largest over the ranks of each small number; waits for no GPU."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=_on_cpu())
        return tensor.tolist()

    def require_same(self, what: str, lines: Sequence[str]) -> None:
        """Refuse a run whose ranks disagree: they would wait for one another for ever.

        Raises:
            AvilError: on all ranks; names the first rank that differs from the first, and the line.
        """
        if self.size == 1:
            return
        all_lines = self.gather(list(lines))
        for rank, other in enumerate(all_lines):
            for one, another in zip_longest(all_lines[0], other):
                if one != another:
                    raise AvilError(
                        f"{what} differs: {one!r} on rank 0, but {another!r} on rank {rank}; start all ranks "
                        f"with the same files and settings"
                    )


ALONE = Ranks()


@functools.cache
def _on_cpu() -> Any:
    """The ranks' group for tensors in CPU memory."""
    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=_joined[0])


def started() -> int:
    """How many ranks the launcher (deepspeed, torchrun) started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def place(device: torch.device) -> torch.device:
    """The device of this rank: the launcher's LOCAL_RANK chooses among a machine's GPUs.

    Raises:
        AvilError: there are fewer GPUs than ranks on this machine.
    """
    if device.type != "cuda":
        return device
    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", local + 1))  # so that all of them refuse
    if here > gpus:
        raise AvilError(
            f"{here} ranks were started on this machine, but it has {gpus} GPUs; start {gpus}, or set device=cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextlib.contextmanager
def together(device: torch.device, always: bool = False, timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """The ranks that a launcher started, joined for as long as the context lasts; one alone without a launcher.

    Args:
        device: of this rank.
        always: join even a single rank to itself, as DeepSpeed needs it.
        timeout: seconds that ranks wait for one another; that of the first run in a process counts.

    Raises:
        RankLost: another rank has ended or does not answer.
    """
    if _within or (dist.is_initialized() and not _joined):
        yield Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE
        return
    if started() == 1 and not always and not _joined:
        yield ALONE
        return
    _join(device, timedelta(seconds=timeout))
    _within.append(True)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    except BaseException as error:
        # The other ranks wait for this one: leave without a farewell, and they end too.
        atexit.unregister(_leave)
        error.__dict__["speaks"] = _asked(_first_to_tell, dist.get_rank() == 1)
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in LATE):
            raise RankLost(_told_of_silence()).with_traceback(None) from error
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST):
            raise RankLost(
                "another rank has ended, so this run stops on all of them; where no rank has told why, look for a "
                "process that was killed, e.g. for want of memory"
            ).with_traceback(None) from error
        raise
    finally:
        _within.pop()


_joined: list[timedelta] = []
"""How long ranks wait for one another. Not empty once they have met here. They stay together for the next run:
DeepSpeed keeps their groups."""

GONE = "avil_fast/gone"
"""Counts the ranks that have left."""

FAREWELL = 5.0
"""Seconds that the first rank waits for the others to leave."""

_within: list[bool] = []
"""Not empty while a run is going on."""


def _join(device: torch.device, timeout: timedelta) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if _joined:
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    here = device if device.type == "cuda" else None
    if "MASTER_ADDR" in os.environ:
        try:
            dist.init_process_group(backend, timeout=timeout, device_id=here)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in LATE):
                raise
            raise RankLost(
                f"not all of the {started()} ranks have met within {timeout.total_seconds():g} seconds; look for "
                f"one that did not start, or set rank_timeout higher"
            ) from error
    else:
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed looks for it
        store = dist.HashStore()  # type: ignore[attr-defined]  # public, but not in torch's list of exports
        dist.init_process_group(backend, store=store, rank=0, world_size=1, device_id=here)
    _joined.append(timeout)
    atexit.register(_leave)


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


def _first_to_tell() -> bool:
    """Whether this rank is the first that has something to say about the end of the run.

    Leaves word that this rank is there, for `_told_of_silence`.
    """
    store = dist.distributed_c10d._get_default_store()  # where the ranks met
    store.set(f"avil_fast/there/{dist.get_rank()}", "")
    return int(store.add("avil_fast/told", 1)) == 1


def _told_of_silence() -> str:
    """Which ranks do not answer, as far as the place where they met can tell."""

    def silent() -> list[int]:
        time.sleep(LEAVE)  # others may be about to leave word
        store = dist.distributed_c10d._get_default_store()
        return [rank for rank in range(dist.get_world_size()) if not store.check([f"avil_fast/there/{rank}"])]

    found: list[int] = _asked(silent, [])
    who = f"rank {', '.join(map(str, found))} has" if found else "another rank has"
    return (
        f"{who} not answered for {_joined[0].total_seconds():g} seconds, so this run stops on all of them; look "
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


def speaks(error: BaseException) -> bool:
    """Whether this rank should tell of an error that ends the run, so that it is told once."""
    cause = error.__cause__ if isinstance(error, RankLost) else error
    told = vars(cause).get("speaks")
    # Before the ranks have met: one of each machine.
    return os.environ.get("LOCAL_RANK", "0") == "0" if told is None else bool(told)
