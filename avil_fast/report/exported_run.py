"""A finished run that is exported, as its model card tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avil_fast.config import Config, TrainConfig
from avil_fast.config.model import CausalLMConfig, ConvNetConfig, EncoderConfig
from avil_fast.report.run import FinishedRun


@dataclass(frozen=True)
class ExportedRun:
    """A finished run, and what its card needs beside it.

    Attributes:
        run: as its folder tells it.
        config: its settings, checked.
        versions: of other packages, by name.
        is_transformers: `model/` is one that transformers loads.
    """

    run: FinishedRun
    config: TrainConfig
    versions: dict[str, str]
    is_transformers: bool

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds."""
        return self.run.summary

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return self.run.history

    @property
    def kept(self) -> dict[str, Any]:
        """The line of the kept round."""
        return next(row for row in self.history if row["round"] == self.summary["best_round"])

    @property
    def model(self) -> ConvNetConfig | EncoderConfig | CausalLMConfig | None:
        """The settings of its model, where the run came from a file."""
        return self.config.model if isinstance(self.config, Config) else None
