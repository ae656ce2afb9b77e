"""The tensors of an engine's state as entries of a file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from avil_fast.checkpoint.writing import Entry
from avil_fast.deltas.base import Stored
from avil_fast.engine.state import EngineState, Snapshot


def sharded(state: EngineState) -> list[Entry]:
    """What of the state is divided among ranks."""
    return [entry for kind, stored in state.sharded.items() for entry in of_partitions(kind, stored)]


def of_partitions(kind: str, stored: Sequence[Stored]) -> list[Entry]:
    """A tensor for every partition, and one for its scales."""
    entries = []
    for partition, group in itertools.groupby(stored, lambda s: s.partition):
        parts = list(group)
        entries.append(Entry(f"{kind}.{partition}", [part.values for part in parts]))
        scales = [part.scales for part in parts if part.scales is not None]
        if scales:
            entries.append(Entry(f"{kind}.{partition}.scales", scales))
    return entries


def of_model(snapshot: Snapshot, with_buffers: bool) -> list[Entry]:
    """A whole model: its partitions, and its buffers, which are the same on all ranks."""
    entries = of_partitions("best", [Stored(k, master) for k, master in enumerate(snapshot.masters)])
    if with_buffers:
        entries += [Entry(f"common/{i}", [buffer]) for i, buffer in enumerate(snapshot.buffers)]
    return entries
