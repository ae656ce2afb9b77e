"""A run in Python, from a checked configuration to its result: what `fit` and the command have in common."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from avil_fast.checkpoint.resume import Resume
from avil_fast.checkpoint.stop import Stop, noting
from avil_fast.config import TrainConfig, dump
from avil_fast.engine.base import Engine
from avil_fast.engine.factory import make_engine
from avil_fast.engine.parameters import device_of
from avil_fast.engine.process_group import joined_ranks
from avil_fast.engine.ranks import Ranks
from avil_fast.errors import Stopped
from avil_fast.methods import find
from avil_fast.observer import Observer, Observers
from avil_fast.randomness import derive_seed, isolated
from avil_fast.report import page
from avil_fast.report.folder import RunFolder
from avil_fast.report.summary import final_summary, peak_bytes
from avil_fast.run.checkpointed import CheckpointedRun
from avil_fast.run.checks import check_model, check_run, data_warnings
from avil_fast.run.metric_loggers import loggers
from avil_fast.run.storage import RunStorage, open_storage, require_free
from avil_fast.tasks.model_format import ModelFormat
from avil_fast.tasks.task import Task


@dataclass(frozen=True)
class Result:
    """What a run came to. The model that was passed in holds the kept parameters.

    Attributes:
        tasks: names, the order of the columns below.
        target: name of the target.
        alphas: [rounds, tasks] fp64, the merged coefficients.
        weights: [rounds + 1, tasks] fp64; row 0 is the start.
        history: one dict per round, the lines of metrics.jsonl: dev loss, metrics, delta norms, seconds...
        summary: what summary.json holds: the result, the budget, versions.
        model: the trained model.
    """

    tasks: list[str]
    target: str
    alphas: NDArray[np.float64]
    weights: NDArray[np.float64]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    model: nn.Module

    @classmethod
    def of(
        cls,
        tasks: Sequence[Task],
        target: str,
        history: list[dict[str, Any]],
        summary: dict[str, Any],
        model: nn.Module,
    ) -> Self:
        """The result with the columns of `alphas` and `weights` in the order of the tasks."""
        names = [task.name for task in tasks]
        return cls(
            tasks=names,
            target=target,
            alphas=np.array([[row["alpha"][name] for name in names] for row in history]),
            weights=np.array([[1.0] * len(names), *([row["weight"][name] for name in names] for row in history)]),
            history=history,
            summary=summary,
            model=model,
        )


def train(
    model: nn.Module,
    tasks: Sequence[Task],
    config: TrainConfig,
    observer: Observer | None = None,
    baselines: dict[str, dict[str, Any]] | None = None,
    resume: Resume = None,
    storage: RunStorage | None = None,
    model_format: ModelFormat | None = None,
) -> Result:
    """`fit` with a checked configuration.

    Args:
        observer: is told how the run goes.
        baselines: summaries to report beside the result.
        storage: one that is open already; `resume` is its own then.
        model_format: how the model is saved; by default its parameters, with their names.

    Raises:
        AvilError, Stopped: as `fit`.
    """
    tasks, model_format = list(tasks), model_format or ModelFormat()
    observer, baselines = observer or Observer(), baselines or {}
    check_model(model, config)
    device = device_of(model)
    with ExitStack() as scope:
        ranks = scope.enter_context(joined_ranks(device, config.rank_timeout, always=config.deepspeed is not None))
        if storage is None:
            ranks.on_first(lambda: require_free(config, resume))
        target = check_run(tasks, config, ranks)
        if ranks.first:
            for warning in [*config.warnings(), *data_warnings(tasks, target, config)]:
                warnings.warn(warning, stacklevel=2)
        ranks.require_same(
            "the model", [f"{n} {tuple(p.shape)} {p.dtype} {p.requires_grad}" for n, p in model.named_parameters()]
        )
        storage = storage or scope.enter_context(open_storage(config, ranks, resume))
        method = find(config.method)
        trained, granularity = method.trained(tasks, target), method.granularity(config)
        # Before the engine, which may be in a task, with random numbers of its own, when it is abandoned.
        scope.enter_context(isolated(derive_seed(config.seed, "run", ranks.rank), device))
        engine = scope.enter_context(
            _closing(make_engine(model, trained, target, config, ranks, granularity, method.keeps_deltas))
        )
        stop = scope.enter_context(noting(storage.checkpoints)) if storage.checkpoints else Stop()
        recorder = scope.enter_context(_recorder(observer, config, ranks, storage))
        checkpointed = CheckpointedRun(
            engine,
            tasks,
            config,
            ranks,
            storage,
            baselines=baselines,
            observer=recorder,
            stop=stop,
            model_format=model_format,
        )
        if storage.folder is not None:
            storage.folder.begin(dump(config), checkpointed.run.history)
        scope.callback(checkpointed.abandon)
        outcome = checkpointed.run.run()
        saved = checkpointed.finish()
        (number,) = ranks.max(stop.signal)
        if number and storage.is_baseline:  # it came after the last point, and what follows is not to begin
            raise Stopped(number, "go on with --resume auto")
        summary = final_summary(tasks, config, outcome) | {
            "baselines": baselines,
            "ranks": ranks.size,
            "memory": asdict(engine.memory()) | {"peak": peak_bytes(device)},
            "checkpoints": saved,
        }
        _write_result(engine, config, storage, summary, outcome.history, model_format)
    return Result.of(tasks, config.target, outcome.history, summary, model)


@contextmanager
def _closing(engine: Engine) -> Iterator[Engine]:
    """The engine, which is closed at the end, together with the other ranks unless something failed."""
    try:
        yield engine
    except BaseException:
        engine.abandon()
        raise
    engine.close()


@contextmanager
def _recorder(observer: Observer, config: TrainConfig, ranks: Ranks, storage: RunStorage) -> Iterator[Observer]:
    """Whoever is told on this rank: the observer; on the first also the run's folder and its loggers."""
    if not ranks.first:
        yield observer if observer.on_all_ranks else Observer()
    elif storage.is_baseline:
        yield observer
    else:
        folder = [_Writer(storage.folder)] if storage.folder is not None else []
        with loggers(config) as logging:
            yield Observers(*folder, observer, *logging)


class _Writer(Observer):
    """Writes rounds to the run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def round(self, row: dict[str, Any]) -> None:
        self._folder.append_metrics(row)


def _write_result(
    engine: Engine,
    config: TrainConfig,
    storage: RunStorage,
    summary: dict[str, Any],
    history: list[dict[str, Any]],
    model_format: ModelFormat,
) -> None:
    """Write model, report and summary, if the run has a folder. All ranks take part: the first gathers weights."""
    if storage.folder is not None:
        storage.folder.write_result(
            engine.weights(), lambda: page.render(summary, history, dump(config)), summary, model_format
        )
    elif config.output_dir is not None:
        deque(engine.weights(), maxlen=0)
