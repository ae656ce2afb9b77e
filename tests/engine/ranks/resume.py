"""A whole run on ranks, saved at every point, or taken up from points of another's."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import avil_fast as avil
from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.engine.ranks import Ranks
from tests.engine.ranks.cases import NAMES, Case, model, tasks

RUN: dict[str, Any] = {
    "rounds": 3,
    "alpha.rounds": 2,
    "finetune.epochs": 2,
    "alpha.steps": 2,
    "steps_per_task": 2,
    "batch_size": 8,
    "weights.rule": "multiplicative",
}
EVERY_POINT = {"checkpoints.minutes": 0, "checkpoints.keep": 10_000, "checkpoints.background": False}

PHASES = [
    {"round": 1, "phase": "training", "task": "a", "step": 1},
    {"round": 1, "phase": "training", "task": "b", "step": 0},
    {"round": 1, "phase": "α", "step": 1},
    {"round": 1, "phase": "round done"},
    {"round": 2, "phase": "training", "task": "t", "step": 1},
    {"round": 2, "phase": "training", "task": "b", "step": 1},
    {"round": 2, "phase": "α", "step": 2},
    {"round": 3, "phase": "training", "task": "t", "step": 2},
    {"round": 3, "phase": "training", "task": "t", "step": 4},
    {"round": 3, "phase": "fine-tune", "epoch": 1, "step": 2},
    {"round": 3, "phase": "fine-tune", "epoch": 2, "step": 0},
    {"round": 3, "phase": "done"},
]
"""The points that runs are taken up from."""


def fit(case: Case, where: Path, device: str = "cpu", **more: Any) -> dict[str, Any]:
    """A run as the case says; what it found."""
    options = RUN | {f"optimizer.{name}": value for name, value in case.optimizer_config().model_dump().items()}
    options |= {"deltas.dtype": case.deltas, "gradient_accumulation_steps": case.parts}
    options["alpha.granularity"] = case.granularity
    if case.stage:
        zero = {"stage": case.stage, "reduce_bucket_size": 10_000} | case.zero
        text = json.dumps({"zero_optimization": zero} | case.settings)
        options["deepspeed"] = where / f"zero-{zlib.crc32(text.encode())}.json"
        own = options["deepspeed"].with_suffix(f".{os.getpid()}")  # all ranks write it, none reads half of it
        own.write_text(text, encoding="utf-8")
        own.replace(options["deepspeed"])
    network = model().to(device)
    result = avil.fit(network, tasks(), NAMES[1], **options | more)
    return {
        "alphas": torch.tensor(result.alphas),
        "weights": torch.tensor(result.weights),
        "dev": [row["dev_loss"] for row in result.history],
        "best": [result.summary["best_round"], result.summary["finetune_epoch"]],
        "model": {name: p.detach().float().cpu().clone() for name, p in result.model.named_parameters()},
    }


@dataclass(frozen=True)
class SavedRun:
    """A run that is saved at every point."""

    case: Case
    where: Path
    """Folder of the run, in a folder for DeepSpeed's files."""

    def __call__(self, ranks: Ranks) -> dict[str, Any]:
        return fit(self.case, self.where.parent, output_dir=self.where, **EVERY_POINT)


@dataclass(frozen=True)
class TakenUp:
    """The rest of a run, from each of `PHASES` or of every `step`-th."""

    case: Case
    where: Path
    step: int = 1

    def __call__(self, ranks: Ranks) -> list[dict[str, Any]]:
        return [fit(self.case, self.where.parent, resume=path) for path in points(self.where)[:: self.step]]


def points(run: Path) -> list[Path]:
    """The checkpoints of `PHASES`."""
    found = [(Manifest.read(path).where, path) for path in Folder(run / "checkpoints").all()]
    return [next(path for where, path in found if where.items() >= phase.items()) for phase in PHASES]
