"""A run's rounds for TensorBoard and Weights & Biases."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from avil_fast.config import TrainConfig
from avil_fast.errors import AvilError, reason
from avil_fast.observer import Observer, Rows

TENSORBOARD = "tensorboard"
"""Within a run's folder."""


class TensorBoard(Observer):
    """Writes a round's numbers as scalars, at the round's number; nothing more once that has failed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._purge: int | None = None
        self._writer: Any = None
        self._failed = False

    def resumed(self, checkpoint: Path, where: dict[str, Any], history: Rows) -> None:
        self._purge = len(history) + 1  # what was written of rounds that come again

    def round(self, row: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._failed:
            return
        try:
            if self._writer is None:
                self._writer = SummaryWriter(str(self._folder), purge_step=self._purge)
            for name, value in scalars(row).items():
                self._writer.add_scalar(name, value, row["round"])
            self._writer.flush()
        except Exception as error:  # with TensorFlow's files these are no OSErrors
            self._give_up(error)

    def close(self) -> None:
        """Nothing is written any more."""
        if self._writer is not None:
            try:
                self._writer.close()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._failed = True
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(Exception):
                writer.file_writer.close()  # ends its thread; the writer's own `close` begins with a flush
        warnings.warn(
            f"{str(self._folder)!r} cannot be written: {reason(error)}; training goes on without TensorBoard",
            stacklevel=2,
        )


class WandB(Observer):
    """Logs a round's numbers to a project of Weights & Biases."""

    def __init__(self, project: str, config: TrainConfig) -> None:
        wandb = importlib.import_module("wandb")

        name = config.output_dir.name if config.output_dir else None
        self._run: Any = wandb.init(project=project, name=name, config=config.model_dump(mode="json"))

    def round(self, row: dict[str, Any]) -> None:
        self._run.log(scalars(row), step=row["round"])

    def close(self) -> None:
        """The run is over."""
        self._run.finish()


def require_loggers(config: TrainConfig) -> None:
    """Refuse settings whose package is missing, before anything is trained.

    Raises:
        AvilError: says how to install it.
    """
    if config.log.tensorboard is True:
        _require("log.tensorboard is true", "tensorboard")
    if config.log.wandb is not None:
        _require(f"log.wandb is {config.log.wandb!r}", "wandb")


@contextmanager
def loggers(config: TrainConfig) -> Iterator[list[Observer]]:
    """Those that a run asks for; called on the first rank."""
    with ExitStack() as scope:
        observers: list[Observer] = []
        wanted = config.log.tensorboard
        if config.output_dir is not None and (wanted is True or (wanted == "auto" and _has("tensorboard"))):
            board = TensorBoard(config.output_dir / TENSORBOARD)
            scope.callback(board.close)
            observers.append(board)
        if config.log.wandb is not None:
            run = WandB(config.log.wandb, config)
            scope.callback(run.close)
            observers.append(run)
        yield observers


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _require(setting: str, package: str) -> None:
    if not _has(package):
        raise AvilError(f"{setting}, but the package {package} is missing; install it with: pip install {package}")


def scalars(row: dict[str, Any]) -> dict[str, float]:
    """A round's line of metrics, flat: `alpha/news`, `weight/news`, ..., `dev_loss`; without what is unknown."""
    by_task = {
        f"{name}/{task}": value
        for name in ("alpha", "weight", "delta_norm", "train_loss", "benefit")
        for task, value in row.get(name, {}).items()
    }
    of_target = {name: row[name] for name in ("dev_loss", "dev_metric", "test_loss", "test_metric")}
    return {name: value for name, value in (by_task | of_target).items() if value is not None}
