"""A finished run, as its model card tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avil_fast.config import Config, TrainConfig
from avil_fast.config.model import CausalLMConfig, ConvNetConfig, EncoderConfig


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        summary: what summary.json holds.
        history: the lines of metrics.jsonl.
        config: its settings.
        versions: of other packages, by name.
        is_transformers: `model/` is one that transformers loads.
    """

    summary: dict[str, Any]
    history: list[dict[str, Any]]
    config: TrainConfig
    versions: dict[str, str]
    is_transformers: bool

    @property
    def kept(self) -> dict[str, Any]:
        """The line of the kept round."""
        return next(row for row in self.history if row["round"] == self.summary["best_round"])

    @property
    def model(self) -> ConvNetConfig | EncoderConfig | CausalLMConfig | None:
        """The settings of its model, where the run came from a file."""
        return self.config.model if isinstance(self.config, Config) else None
