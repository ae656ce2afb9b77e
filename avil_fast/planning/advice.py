"""What to change so that a run fits, the cheapest changes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from avil_fast.engine.zero.config import resolve
from avil_fast.planning.memory import PlannedRun, parts, total

MOST_RANKS = 1 << 12


@dataclass(frozen=True)
class Change:
    """A setting that saves memory, and what it costs."""

    words: str
    """The setting as it is given."""
    cost: str
    make: Callable[[PlannedRun], PlannedRun | None]
    """The run with this change; None where it does not apply."""


@dataclass(frozen=True)
class Advice:
    """The least changes found that make a run fit."""

    changes: list[Change]
    ranks: int
    nbytes: float
    """Bytes on a GPU after the changes."""
    host: float
    """Bytes in the CPU's memory beside it."""


def advise(run: PlannedRun, room: float) -> Advice | None:
    """The cheapest changes under which the run takes `room` bytes of a GPU; with more GPUs where they do not do.

    None if nothing helps. Changes are tried from the cheapest to the dearest, kept where they save something, and
    at the end those are taken back that are not needed.
    """
    ranks = run.ranks
    if _on(run, max(ranks, MOST_RANKS), room) is None:
        return None
    while (found := _on(run, ranks, room)) is None:
        ranks *= 2
    return found


def _on(run: PlannedRun, ranks: int, room: float) -> Advice | None:
    """The changes for so many ranks, with a batch that is large enough for them."""
    batch = max(run.config.batch_size, ranks * run.config.gradient_accumulation_steps)
    begin = replace(run, config=run.config.model_copy(update={"batch_size": batch}), ranks=ranks)
    found = _fitting(replace(begin, zero=_again(begin)), room)
    if found is None or batch == run.config.batch_size:
        return found
    return replace(found, changes=[_larger_batch(batch), *found.changes])


def _fitting(run: PlannedRun, room: float) -> Advice | None:
    taken: list[Change] = []
    now, size = run, _size(run)
    for change in _changes(run):
        if size <= room:
            break
        changed = change.make(now)
        if changed is not None and (smaller := _size(changed)) < size:
            now, size = changed, smaller
            taken.append(change)
    if size > room:
        return None
    for change in taken[:-1]:
        fewer = [other for other in taken if other is not change]
        without = _with(run, fewer)
        if without is not None and (larger := _size(without)) <= room:
            taken, size = fewer, larger
    changed = _with(run, taken)
    assert changed is not None
    return Advice(taken, run.ranks, size, total(parts(changed), "host", on_gpu=True))


def _with(run: PlannedRun, changes: Sequence[Change]) -> PlannedRun | None:
    now: PlannedRun | None = run
    for change in changes:
        now = change.make(now) if now is not None else None
    return now


def _size(run: PlannedRun) -> float:
    return total(parts(run), "device", run.on_gpu)


def _changes(run: PlannedRun) -> Iterator[Change]:
    pieces = max(1, run.config.batch_size // run.ranks)
    yield Change("deltas.dtype=bf16", "the α gradient within 0.05 %", _deltas("dtype", "bf16", ("fp32",)))
    yield Change("deltas.dtype=int8", "the α gradient within 0.5 %", _deltas("dtype", "int8", ("fp32", "bf16")))
    yield Change("eval_batch_size=8", "more, smaller passes over the dev set", _config(eval_batch_size=8))
    yield Change("optimizer.moments=reset", "moments start afresh for every task", _reset)
    yield Change(
        f"gradient_accumulation_steps={pieces}",
        "one example at a time",
        _config(gradient_accumulation_steps=pieces),
    )
    yield Change(
        "model.gradient_checkpointing=true",
        "forward passes are computed twice",
        _model(gradient_checkpointing=True),
    )
    yield Change("--deepspeed_config configs/zero2.json", "none", _zero(2))
    yield Change("--deepspeed_config configs/zero3.json", "more communication in every pass", _zero(3))
    yield Change(
        "deltas.device=cpu", "deltas are streamed twice in every α step", _deltas("device", "cpu", ("model",))
    )
    yield Change(
        "--deepspeed_config configs/zero3_offload.json", "optimizer steps on the CPU", _zero(3, offload=True)
    )
    yield Change("model.dtype=bf16", "parameters in 16 bits", _model(dtype="bf16"))


def _config(**updates: Any) -> Callable[[PlannedRun], PlannedRun | None]:
    def make(run: PlannedRun) -> PlannedRun | None:
        return replace(run, config=run.config.model_copy(update=updates))

    return make


def _deltas(name: str, value: str, before: Sequence[str]) -> Callable[[PlannedRun], PlannedRun | None]:
    def make(run: PlannedRun) -> PlannedRun | None:
        if getattr(run.config.deltas, name) not in before or not run.keeps_deltas:
            return None
        deltas = run.config.deltas.model_copy(update={name: value})
        return replace(run, config=run.config.model_copy(update={"deltas": deltas}))

    return make


def _larger_batch(size: int) -> Change:
    return Change(f"batch_size={size}", "an example for every GPU", _config(batch_size=size))


def _reset(run: PlannedRun) -> PlannedRun | None:
    optimizer = run.config.optimizer.model_copy(update={"moments": "reset"})
    return replace(run, config=run.config.model_copy(update={"optimizer": optimizer}))


def _model(**updates: Any) -> Callable[[PlannedRun], PlannedRun | None]:
    def make(run: PlannedRun) -> PlannedRun | None:
        shape = run.shape.changed(**updates)
        return None if shape is None else replace(run, shape=shape)

    return make


def _zero(stage: int, offload: bool = False) -> Callable[[PlannedRun], PlannedRun | None]:
    def make(run: PlannedRun) -> PlannedRun | None:
        if run.stage >= stage and not offload:
            return None
        section: dict[str, Any] = {"stage": stage}
        if offload:
            section |= {"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}
        bf16 = {"enabled": run.zero.bf16} if run.zero else {"enabled": False}
        settings = {"zero_optimization": section, "bf16": bf16}
        return replace(run, zero=resolve(settings, run.config, run.ranks))

    return make


def _again(run: PlannedRun) -> Any:
    """The DeepSpeed settings for the ranks and the batch that there are now."""
    if run.zero is None:
        return None
    kept: dict[str, Any] = {
        key: run.zero.settings[key]
        for key in ("zero_optimization", "bf16", "data_types")
        if key in run.zero.settings
    }
    return resolve(kept, run.config, run.ranks, run.zero.name)
