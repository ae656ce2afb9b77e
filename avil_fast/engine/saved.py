"""The state of an engine on flat partitions: what of it is saved, and how it is taken up again."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avil_fast import randomness
from avil_fast.deltas.base import Stored
from avil_fast.engine.readout import ReadableEngine
from avil_fast.engine.round_buffers import is_averaged
from avil_fast.engine.state import EngineState, Loaded, Snapshot


class SavedEngine(ReadableEngine):
    """Knows which tensors count at a point of a round.

    While a round is open these are the base, the deltas that are there, and, as long as a task trains, what it
    has made of θ. In the α phase θ + Σ α_i δ_i is not saved: it follows from these. Between rounds it is θ alone.
    The start of the run is one more model, as long as it is kept. Frozen parameters are saved if they have moved.
    """

    _prepared: dict[str, Any]
    _start: Snapshot | None = None
    """Of `keep_start`."""

    @abstractmethod
    def _moments(self, task: int) -> dict[int, dict[str, Any]]:
        """The optimizer's state of a task on this rank by partition, as torch's optimizers name it; {} if none."""

    @abstractmethod
    def _make_moments(self, task: int, names: Sequence[str], steps: Mapping[str, int | None]) -> None:
        """Allocate a task's optimizer state of these tensors: of "shared" partitions and its "head", those of the
        two that are in `steps`, after so many."""

    @abstractmethod
    def _forget_moments(self) -> None:
        """Drop the optimizer's state of all tasks."""

    def _agree_on_moments(self) -> None:
        """Give every rank what it needs of the moments that all of them have filled."""

    def keep_start(self) -> None:
        self._start = self.snapshot()

    def restart(self) -> bool:
        if self._start is None:
            return False
        self.restore(self._start)
        self._forget_moments()
        self._start = None
        return True

    def buffers(self) -> list[list[Any]]:
        buffers = self._model_buffers
        return [[name, list(buffer.shape)] for name, buffer in zip(buffers.names, buffers.present(), strict=True)]

    def frozen(self) -> int | None:
        return self._frozen.checksum

    def state(self) -> EngineState:
        rejected = list(self.rejected_in_a_row(wait=True))
        state = EngineState(
            {"open": self._open, "task": self._current, "seed": self._seed, "rejected_in_a_row": rejected}
        )
        bases = self._bases() if self._open else {}
        state.sharded["theta"] = [Stored(k, bases.get(k, shard.master)) for k, shard in enumerate(self._all)]
        state.facts["moments"] = {}
        for task in range(len(self.tasks)):
            if moments := self._moments(task):
                first = next(iter(moments.values()))
                names = [name for name, value in first.items() if name != "step" and value is not None]
                steps = {
                    "shared" if self._owners[k] is None else "head": _number(of_partition.get("step"))
                    for k, of_partition in moments.items()
                }
                state.facts["moments"][str(task)] = {"names": names, "steps": steps}
                for name in names:
                    stored = [Stored(k, values[name]) for k, values in moments.items()]
                    state.sharded[f"moment/{task}/{name}"] = stored
        buffers = {f"buffer/{i}": buffer for i, buffer in enumerate(self._model_buffers.present())}
        if not self._open:
            state.common = buffers
        else:
            state.facts["captured"] = self._deltas.captured
            state.facts["buffer_tasks"] = self._buffers.tasks
            state.common = self._buffers.state()
            for slot in self._slots():
                if slot.captured:
                    state.sharded.setdefault(slot.name, []).extend(slot.rows())
        state.facts["widened"] = self._model_buffers.widened()
        state.common |= _prefixed("frozen/", self._frozen.moved())
        state.facts["start"] = self._start is not None
        if self._start is not None:
            state.sharded["start"] = [Stored(k, master) for k, master in enumerate(self._start.masters)]
            state.common |= {f"start/{i}": buffer for i, buffer in enumerate(self._start.buffers)}
        state.own = _prefixed("random/", randomness.states(self.device))
        if self._current is not None:
            state.sharded["trained"] = [
                Stored(k, self._all[k].master) for k in bases if self._owners[k] in (None, self._current)
            ]
            state.own |= buffers | _prefixed("outside/", self._outside)
            state.own["losses"] = self._losses.stacked()
        return state

    def prepare(self, facts: dict[str, Any]) -> EngineState:
        self._scope.close()
        self._current, self._open = None, False
        self._forget_moments()
        self._model_buffers.widen(facts.get("widened", []))
        self._start = self.snapshot() if facts["start"] else None
        self._losses.in_a_row = list(facts["rejected_in_a_row"])
        if facts["open"]:
            self.begin_round()
            self._deltas.captured = facts["captured"]
        if facts["task"] is not None:
            self.begin_task(facts["task"], facts["seed"])
        for task, moments in facts["moments"].items():
            self._make_moments(int(task), moments["names"], moments["steps"])
        self._prepared = facts
        return self.state()

    def adopt(self, loaded: Loaded) -> None:
        facts, training = self._prepared, self._current is not None
        if facts["open"]:
            for k, base in self._bases().items():
                if not training or self._owners[k] not in (None, self._current):
                    self._all[k].master.copy_(base)
            self._buffers.load(loaded.common, facts["buffer_tasks"])
        if self._start is not None:
            for i, buffer in enumerate(self._start.buffers):
                buffer.copy_(loaded.common[f"start/{i}"])
        self._publish_all()
        self._frozen.put(_without("frozen/", loaded.common))
        self._agree_on_moments()
        for i, buffer in enumerate(self._model_buffers.placed()):
            if not training:
                buffer.copy_(loaded.common[f"buffer/base/{i}" if facts["open"] else f"buffer/{i}"])
            elif loaded.all_own and is_averaged(buffer):  # each rank's were of other examples
                buffer.copy_(torch.stack([own[f"buffer/{i}"] for own in loaded.all_own]).mean(0))
            else:
                buffer.copy_((loaded.own or loaded.all_own[0])[f"buffer/{i}"])
        if training:
            assert loaded.own is not None or loaded.all_own
            losses = loaded.own["losses"] if loaded.own else torch.zeros(0)
            if loaded.all_own:
                total = torch.stack([own["losses"] for own in loaded.all_own]).sum(0)
                losses = total if self.ranks.first else torch.zeros_like(total)
            self._losses.begin(list(losses.to(self.device)))
            self._outside = _without("outside/", loaded.own or loaded.all_own[0])
        if loaded.own is not None:
            randomness.restore(_without("random/", loaded.own), self.device)
        elif not training:  # a rank that was not there draws in a task as one that has just begun it
            randomness.restore(_without("random/", loaded.all_own[0]), self.device)


def _number(step: Any) -> int | None:
    return None if step is None else int(step)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin so, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
