"""The best model of a run so far."""

from __future__ import annotations

from dataclasses import dataclass

from avil_fast.engine.base import Engine
from avil_fast.engine.results import Evaluation
from avil_fast.engine.state import Snapshot


@dataclass
class Best:
    """The best model of a run so far: what it reached on dev, and its parameters; None before the first offer."""

    evaluation: Evaluation | None = None
    snapshot: Snapshot | None = None

    @property
    def model(self) -> Snapshot:
        """The parameters of the best model, which there is."""
        assert self.snapshot is not None
        return self.snapshot

    def offer(self, evaluation: Evaluation, engine: Engine, *, always: bool = False) -> bool:
        """Keep the engine's present model if it is better, or `always`; return whether it was kept."""
        if not always and not evaluation.better_than(self.evaluation):
            return False
        self.snapshot = None  # so that its memory is used again
        self.evaluation, self.snapshot = evaluation, engine.snapshot()
        return True
