"""Snapshots use the memory of those that were let go, and of no others."""

from __future__ import annotations

import weakref

import torch

from avil_fast.engine.snapshot_memory import SnapshotMemory


def test_the_memory_of_a_snapshot_that_is_gone_is_used_again() -> None:
    memory, masters = SnapshotMemory(), [torch.arange(5.0), torch.ones(3)]
    first = memory.snapshot(masters, [])
    places = [tensor.data_ptr() for tensor in first.masters]
    del first
    masters[0].add_(1)
    second = memory.snapshot(masters, [])
    assert [tensor.data_ptr() for tensor in second.masters] == places
    assert all(map(torch.equal, second.masters, masters))


def test_one_that_somebody_holds_keeps_what_it_has() -> None:
    memory, masters = SnapshotMemory(), [torch.arange(5.0)]
    buffer = torch.zeros(2)
    held = memory.snapshot(masters, [buffer])
    masters[0].add_(1)
    buffer.add_(1)
    assert memory.snapshot(masters, [buffer]).masters[0].tolist() == [1, 2, 3, 4, 5]
    assert held.masters[0].tolist() == [0, 1, 2, 3, 4]
    assert held.buffers[0].tolist() == [0, 0]


def test_no_more_than_one_model_lies_idle() -> None:
    """As after a restart, when the start is let go, and the best model before each better one."""
    memory, masters = SnapshotMemory(), [torch.arange(5.0)]
    start, best = memory.snapshot(masters, []), memory.snapshot(masters, [])
    of_start = weakref.ref(start.masters[0])
    del start
    assert of_start() is not None  # idle
    del best
    assert of_start() is None
    best = memory.snapshot(masters, [])
    assert memory._idle is None
    assert best.masters[0].tolist() == [0, 1, 2, 3, 4]
