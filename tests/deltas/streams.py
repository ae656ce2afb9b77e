"""Streams and events of no device, which find races: what two streams do to one memory must be in order.

Every stream has a clock with an entry per stream, as a vector clock has: recording an event notes the
stream's clock, waiting for it takes over what was noted. Two accesses of the same memory, one of them a
write, race unless the later one's stream had taken over the earlier one's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avil_fast.deltas import streamed

Clock = dict[str, int]


@dataclass
class Stream:
    name: str
    clock: Clock = field(default_factory=dict)

    def tick(self) -> Clock:
        self.clock[self.name] = self.clock.get(self.name, 0) + 1
        return dict(self.clock)

    def wait_event(self, event: Event) -> None:
        for name, time in event.clock.items():
            self.clock[name] = max(time, self.clock.get(name, 0))


class Event:
    def __init__(self) -> None:
        self.clock: Clock = {}

    def record(self, stream: Stream) -> None:
        self.clock = stream.tick()


@dataclass
class Access:
    stream: str
    clock: Clock
    operation: str
    writes: bool
    storage: int

    def before(self, other: Access) -> bool:
        return other.clock.get(self.stream, 0) >= self.clock[self.stream]


class Races(TorchDispatchMode):
    """Logs what operations read and write in which stream; an unordered pair, or a wait of the host, fails."""

    def __init__(self, compute: Stream) -> None:
        super().__init__()
        self.current = compute
        self.log: list[Access] = []

    def access(self, operation: str, tensor: torch.Tensor, writes: bool) -> None:
        this = Access(
            self.current.name, self.current.tick(), operation, writes, tensor.untyped_storage().data_ptr()
        )
        for other in self.log:
            if other.storage == this.storage and (other.writes or writes):
                assert other.before(this), f"a race: {other} and {this}"
        self.log.append(this)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2]
        assert name != "_local_scalar_dense", "the host waits for the device"
        if func.namespace == "avil_fast" or name in ("copy_", "add_"):
            for argument, value in zip(func._schema.arguments, args, strict=False):
                writes = argument.alias_info is not None and argument.alias_info.is_write
                for tensor in tree_leaves(value):
                    if isinstance(tensor, torch.Tensor):
                        self.access(name, tensor, writes)
        return func(*args, **(kwargs or {}))


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Races]:
    """Banks made within compute in one stream and copy in another, both made up."""
    compute, copies = Stream("compute"), Stream("copies")
    races = Races(compute)

    @contextmanager
    def within(stream: Stream) -> Iterator[None]:
        before, races.current = races.current, stream
        yield
        races.current = before

    with monkeypatch.context() as patch:
        patch.setattr(streamed, "copy_stream", lambda device: copies)
        patch.setattr(streamed, "compute_stream", lambda device: compute)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "stream", within)
        patch.setattr(torch.cuda, "current_stream", lambda device: compute)
        patch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
        yield races
