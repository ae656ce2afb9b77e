"""Memory of a process by malloc's account, which all of torch's CPU tensors come from."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

MMAPPED = 1 << 15
"""Blocks of so many bytes are given back at once when they are freed, with MALLOC_MMAP_THRESHOLD_ set to it."""

_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _MallocInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS.split())


def _mallinfo() -> Callable[[], Any]:
    function = ctypes.CDLL(None).mallinfo2
    function.restype = _MallocInfo
    return function  # type: ignore[no-any-return]


def mapped() -> int:
    """Bytes of the blocks of `MMAPPED` bytes or more, those of all threads."""
    return int(_mallinfo()().hblkhd)


def used() -> int:
    """Bytes of all blocks."""
    info = _mallinfo()()
    return int(info.hblkhd + info.uordblks)


class Peak(TorchDispatchMode):
    """The most bytes that there were after any of torch's operations.

    Whichever thread gives them back; torch's own profiler does not see what gloo's threads do.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__()
        self._now = now
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.bytes = max(self.bytes, self._now())
        return result


def peak(action: Callable[[], object], now: Callable[[], int] = used) -> int:
    """The most bytes that there are while `action` runs."""
    with Peak(now) as found:
        action()
    return found.bytes
