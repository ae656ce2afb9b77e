"""A run from the command line: build the tasks, train, run the baselines, print what came out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from avil_fast import api
from avil_fast.config import Config, load
from avil_fast.console import Console
from avil_fast.errors import AvilError
from avil_fast.tasks.from_config import build


def train(path: Path | None, overrides: Sequence[str], deepspeed_config: Path | None = None) -> api.Result:
    """Train as a config file says (None: the bundled digits), with its baselines first."""
    config = load(path, overrides)
    console = Console()
    if deepspeed_config is not None:
        check_launch(deepspeed_config)
        console.note(
            "the ZeRO engine is not part of this version: training on one process, "
            f"{deepspeed_config.name} was read but its settings are not used"
        )
    check_ranks()
    device = pick_device(config.device)
    model, tasks = build(config)
    api.check_run(tasks, config)
    baselines: dict[str, dict[str, Any]] = {}
    for method in config.baselines:
        if method != config.method:
            baselines[method] = run_baseline(config, method, device, console)
    with console.running(config.method, config.rounds, tasks) as observer:
        result = api.train(model.to(device), tasks, config, observer, baselines)
    console.result(result, config.output_dir)
    return result


def run_baseline(config: Config, method: str, device: torch.device, console: Console) -> dict[str, Any]:
    """Train a fresh model with another method on the same tasks and budget; its summary."""
    model, tasks = build(config)
    plain = config.model_copy(update={"method": method, "output_dir": None, "baselines": ()})
    with console.running(method, config.rounds, tasks) as observer:
        return api.train(model.to(device), tasks, plain, observer).summary


def pick_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise AvilError("device is 'cuda', but torch sees no GPU; set device=cpu or install a CUDA build of torch")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_launch(deepspeed_config: Path) -> None:
    """Refuse a DeepSpeed file that cannot be read."""
    try:
        json.loads(deepspeed_config.read_text(encoding="utf-8"))
    except OSError as error:
        raise AvilError(
            f"--deepspeed_config {str(deepspeed_config)!r} cannot be read: {error.strerror}"
        ) from error
    except ValueError as error:
        raise AvilError(f"--deepspeed_config {str(deepspeed_config)!r} is not JSON: {error}") from error


def check_ranks() -> None:
    """Refuse more than one rank; the launcher says how many in WORLD_SIZE."""
    ranks = os.environ.get("WORLD_SIZE", "1")
    if ranks != "1":
        raise AvilError(f"{ranks} ranks were started, but this version trains on one; use --num_accelerators 1")
