"""What an engine on flat partitions gives out: copies of its model, and base and deltas of a round, whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from torch import Tensor

from avil_fast.deltas.base import DeltaBank, Stored
from avil_fast.engine.group import Shard
from avil_fast.engine.parameters import assign, trainable
from avil_fast.engine.partitioned import PartitionedEngine
from avil_fast.engine.state import Snapshot
from avil_fast.engine.whole_tensors import overlaid, whole_tensors


@dataclass(frozen=True)
class Slot:
    """Where a bank keeps one delta of a round."""

    name: str
    """As a saved state has it: "delta/0", "delta/head"."""
    bank: DeltaBank
    index: int
    """In the bank."""
    partitions: Sequence[int]
    """The bank's partitions, as `placement` counts these."""

    @property
    def captured(self) -> bool:
        """Whether the delta is there."""
        return self.bank.captured[self.index]

    def rows(self) -> list[Stored]:
        """The delta as it is kept, by partition as `placement` counts these."""
        return [replace(row, partition=self.partitions[row.partition]) for row in self.bank.row(self.index)]


class ReadableEngine(PartitionedEngine):
    """Knows which parameters each partition holds, and so what base and deltas are, parameter by parameter."""

    _all: Sequence[Shard]
    """Partitions of all trainable parameters: the shared ones first, then heads in the order of tasks."""
    _owners: Sequence[int | None]
    """For each partition, the task whose head it is; None if shared."""

    @abstractmethod
    def _publish_all(self) -> None:
        """`_publish`, where any partition may have been written."""

    def snapshot(self) -> Snapshot:
        with self._clock.part("checkpoints"):
            masters = [shard.master for shard in self._all]
            return self._snapshot_memory.snapshot(masters, self._model_buffers.present())

    def restore(self, snapshot: Snapshot) -> None:
        for shard, saved in zip(self._all, snapshot.masters, strict=True):
            shard.master.copy_(saved)
        self._publish_all()
        for buffer, saved in zip(self._model_buffers.placed(), snapshot.buffers, strict=True):
            buffer.copy_(saved)
        self._open = False

    @property
    def has_deltas(self) -> bool:
        return self._deltas.complete

    def base(self) -> Iterator[tuple[str, Tensor]]:
        bases = self._bases()
        in_bank = self._whole([Stored(k, base) for k, base in bases.items()], with_head=self._deltas.scales_head)
        return overlaid(self.weights(), in_bank, lambda now, then: then)

    def deltas(self, task: int) -> Iterator[tuple[str, Tensor]]:
        with_head = task == self.target and self._deltas.scales_head
        wanted = {f"delta/{task}", "delta/head"} if with_head else {f"delta/{task}"}
        rows = [stored for slot in self._slots() if slot.name in wanted for stored in slot.rows()]
        return self._whole(rows, with_head)

    def _whole(self, rows: Sequence[Stored], with_head: bool) -> Iterator[tuple[str, Tensor]]:
        """The shared parameters, and those of the target's head if it is in, as the ranks have them in `rows`."""
        shared, heads = assign(self.model, self.tasks)
        wanted = {id(parameter) for parameter in (*shared, *(heads[self.target] if with_head else ()))}
        names = {name for name, parameter in trainable(self.model).items() if id(parameter) in wanted}
        dtype = self._deltas.shared[0].base[0].dtype
        return whole_tensors(names, rows, self.placement(), self.ranks, dtype, self.device)

    def _bases(self) -> dict[int, Tensor]:
        """The round's base by partition, as `placement` counts these, of those that have one."""
        scaled = self.target if self._deltas.scales_head else -1
        indices = [k for k, owner in enumerate(self._owners) if owner is None]
        indices += [k for k, owner in enumerate(self._owners) if owner == scaled]
        bases = [base for group in self._deltas for base in group.base]
        return dict(zip(indices, bases, strict=True))

    def _slots(self) -> Iterator[Slot]:
        """Those of all deltas, group by group."""
        indices = iter(self._bases())
        for group in self._deltas.shared:
            own = list(islice(indices, len(group.base)))
            for task in range(group.bank.n):
                yield Slot(f"delta/{task}", group.bank, task, own)
        head = self._deltas.head
        if head.shards and head.bank.n:
            yield Slot("delta/head", head.bank, 0, list(indices))
