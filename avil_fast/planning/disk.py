"""What a run's checkpoints take on the disk of its output_dir, all ranks together."""

from __future__ import annotations

from dataclasses import dataclass

from avil_fast.planning.memory import PlannedRun, moments

SMALL = 45_000
"""Bytes of a rank's random numbers, tables and headers of files; measured."""


@dataclass(frozen=True)
class Disk:
    """Bytes of checkpoints, at most; without the model's buffers and the manifest, which holds the history."""

    checkpoint: float
    """Of one, in the middle of a round."""
    number: int
    """How many there are at a time: those kept, that of the last round's end, and the one being written."""

    @property
    def nbytes(self) -> float:
        """Of all that are there at a time."""
        return self.number * self.checkpoint


def disk(run: PlannedRun) -> Disk:
    """The disk that a run's checkpoints need.

    A checkpoint holds θ, the moments and the best model; the run's start as long as that is kept; what a task has
    made of θ; and the deltas of the others, as it is the last one.
    """
    sizes, config = run.shape.sizes, run.config
    models = 2 + config.may_restart
    training = sizes.shared + max(sizes.heads, default=0)
    others = (run.tasks - 1) * sizes.shared + run.scaled_head if run.keeps_deltas else 0
    checkpoint = (
        4 * (models * sizes.trained + training)
        + moments(run).nbytes
        + run.codec_bytes * others
        + SMALL * run.ranks
    )
    ends_before_finetune = config.checkpoints.minutes is not None and config.finetune.epochs > 0
    return Disk(checkpoint, config.checkpoints.keep + 1 + ends_before_finetune)
