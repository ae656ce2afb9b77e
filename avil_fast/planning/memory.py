"""What a run holds on each rank, part by part, for every engine.

N shared trainable elements, n tasks with heads, R ranks, p bytes of a parameter (4, or 2 in bf16).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from avil_fast.deltas.codec import CODECS
from avil_fast.deltas.streamed import WINDOW
from avil_fast.methods import find
from avil_fast.tasks.shapes.base import Pass, Shape

if TYPE_CHECKING:
    from avil_fast.config import TrainConfig
    from avil_fast.engine.zero.config import ZeroConfig

LIVE = 1_000_000_000
"""Elements that DeepSpeed's stage 3 holds whole at once, where its file names no number."""

OBJECTS = 250_000
"""Bytes that Python keeps for an engine, its optimizers and its data; measured, between 130 and 350 kB."""

PASSES: dict[Pass, str] = {
    "training": "activations of task training",
    "alpha": "activations of the α phase",
    "evaluation": "activations of an evaluation",
}


Place = Literal["device", "host"]
"""The memory of the GPU, or of the CPU beside it."""


@dataclass(frozen=True)
class MemoryPart:
    """Memory of one kind on a rank, in bytes, and the formula that it comes from."""

    name: str
    nbytes: float
    formula: str
    place: Place = "device"
    at_once: bool = True
    """Whether it is there together with all other such parts; of the rest only the largest counts."""


@dataclass(frozen=True)
class PlannedRun:
    """A run on its ranks: all that its memory depends on."""

    config: TrainConfig
    shape: Shape
    tasks: int
    ranks: int
    zero: ZeroConfig | None
    on_gpu: bool
    dev: int | None
    """Dev examples of the target, where that is known."""

    @property
    def stage(self) -> int:
        """ZeRO stage; 0 without DeepSpeed."""
        return self.zero.stage if self.zero else 0

    @property
    def element(self) -> int:
        """p, bytes of a parameter."""
        return 2 if self.zero and self.zero.bf16 else self.shape.sizes.element

    @property
    def codec_bytes(self) -> float:
        """e, bytes of a delta's element, its scales included."""
        return CODECS[self.config.deltas.dtype].bytes_per_element

    @property
    def split(self) -> int:
        """Among how many ranks masters, gradients and moments are divided."""
        return self.ranks if self.stage else 1

    @property
    def scaled_head(self) -> int:
        """Elements of the target's head that α scales."""
        heads = self.shape.sizes.heads
        return heads[0] if heads and self.config.alpha.target_head == "scaled" else 0

    @property
    def keeps_deltas(self) -> bool:
        """Whether the method keeps deltas."""
        return find(self.config.method).keeps_deltas

    def zero_number(self, name: str, default: int) -> int:
        """A whole number of the DeepSpeed file's section zero_optimization; `default` where it has none."""
        value = self.zero.settings["zero_optimization"].get(name, default) if self.zero else default
        return int(value)

    def place(self, section: str) -> Place:
        """Where DeepSpeed keeps what this section of its file is about."""
        settings = (self.zero.settings["zero_optimization"].get(section) or {}) if self.zero else {}
        return "host" if settings.get("device") == "cpu" else "device"

    def examples(self, kind: Pass) -> int:
        """Examples that a rank takes through the model at once."""
        config = self.config
        if kind == "training":
            return -(-config.batch_size // (self.ranks * config.gradient_accumulation_steps))
        batch = config.eval_batch_size if self.dev is None else min(self.dev, config.eval_batch_size)
        if kind == "alpha" and config.alpha.dev_examples is not None:
            batch = config.alpha.dev_examples
        return -(-batch // self.ranks)


def parts(run: PlannedRun) -> list[MemoryPart]:
    """All parts that a rank holds; those of passes (`at_once` is False) are there one at a time."""
    found = [*_model(run), *_deltas(run), *_host(run)]
    kinds: tuple[Pass, ...] = (
        ("training", "alpha", "evaluation") if run.keeps_deltas else ("training", "evaluation")
    )
    for kind in kinds:
        kept = run.shape.kept(run.examples(kind), kind)
        buckets = _buckets(run, kind)
        found.append(
            MemoryPart(PASSES[kind], kept.nbytes + buckets, kept.formula + _and_buckets(buckets), at_once=False)
        )
    return found


def total(found: list[MemoryPart], place: str, on_gpu: bool) -> float:
    """Bytes in a place at most; without a GPU all of it is in one memory."""
    here = [part for part in found if not on_gpu or part.place == place]
    passes = [part.nbytes for part in here if not part.at_once]
    return sum(part.nbytes for part in here if part.at_once) + max(passes, default=0.0)


@dataclass(frozen=True)
class Moments:
    """The optimizer's state on all ranks together."""

    nbytes: float
    formula: str


def moments(run: PlannedRun) -> Moments:
    """Of the shared parameters, one set or one for each task, and of heads."""
    each = {"sgd": 1 if run.config.optimizer.momentum else 0}.get(run.config.optimizer.name, 2)
    sets = run.tasks if run.config.optimizer.moments == "per_task" and run.keeps_deltas else 1
    heads = run.shape.sizes.heads
    elements = sets * run.shape.sizes.shared + (sum(heads) if sets > 1 else max(heads, default=0))
    formula = f"{4 * each} N"
    return Moments(4 * each * elements, f"{sets} tasks x {formula}" if sets > 1 else formula)


def _model(run: PlannedRun) -> Iterator[MemoryPart]:
    sizes, stage, split, p = run.shape.sizes, run.stage, run.split, run.element
    trained, masters_on, low = sizes.trained, run.place("offload_optimizer"), p < 4
    if stage == 3:
        yield MemoryPart("parameters", p * sizes.whole / split, f"{p} N / R", run.place("offload_param"))
        live = min(sizes.whole, run.zero_number("stage3_max_live_parameters", LIVE))
        whole = max(min(live, sizes.largest + run.zero_number("stage3_prefetch_bucket_size", 50_000_000)), 0)
        yield MemoryPart(
            "parameters gathered at a time", p * min(whole, sizes.whole), "the largest, and those prefetched"
        )
    else:
        yield MemoryPart("parameters", p * sizes.whole, f"{p} N")
    if sizes.buffers:
        yield MemoryPart("buffers", sizes.buffers, "the model's own")
    if stage or low:
        yield MemoryPart("masters", 4 * trained / split, "4 N / R" if stage else "4 N", masters_on)
    if stage == 0:
        yield MemoryPart("gradients", (p + 4 * low) * trained, f"{p} N" + (" and 4 N in fp32" if low else ""))
    elif stage == 1:
        yield MemoryPart("gradients", p * trained, f"{p} N")
    else:
        yield MemoryPart("gradients", 4 * trained / split, "4 N / R", masters_on if stage == 2 else "device")
    of_moments = moments(run)
    yield MemoryPart("moments", of_moments.nbytes / split, of_moments.formula + " / R" * (split > 1), masters_on)


def _deltas(run: PlannedRun) -> Iterator[MemoryPart]:
    if not run.keeps_deltas:
        return
    shared, head, e = run.shape.sizes.shared, run.scaled_head, run.codec_bytes
    where = run.place("offload_optimizer")
    yield MemoryPart("base", 4 * (shared + head) / run.ranks, "4 N / R", where)
    streamed = run.on_gpu and run.config.deltas.device == "cpu"
    bank = e * (run.tasks * shared + head) / run.ranks
    formula = f"{run.tasks} tasks x {e:.3g} N / R"
    yield MemoryPart("bank", bank, formula, "host" if streamed else where)
    if streamed:
        yield MemoryPart("windows", 2 * WINDOW, "two, through which deltas are streamed")


def _host(run: PlannedRun) -> Iterator[MemoryPart]:
    """What lies in the CPU's memory in any case."""
    yield MemoryPart("best model", 4 * run.shape.sizes.trained / run.ranks, "4 N / R", "host")
    if run.config.may_restart:
        yield MemoryPart("the run's start", 4 * run.shape.sizes.trained / run.ranks, "4 N / R", "host")
    yield MemoryPart("Python's objects", OBJECTS, "measured; the same for any model", "host")


def _buckets(run: PlannedRun, kind: Pass) -> float:
    """Bytes of DeepSpeed's buckets for gradients on their way."""
    if run.zero is None or not run.stage or kind == "evaluation":
        return 0.0
    twice = 2 if run.zero.settings["zero_optimization"].get("overlap_comm", run.stage == 3) else 1
    return float(run.element * twice * run.zero.bucket(run.shape.sizes.trained))


def _and_buckets(nbytes: float) -> str:
    return f"; {nbytes / 1e9:.3g} GB of it are DeepSpeed's buckets" if nbytes else ""
