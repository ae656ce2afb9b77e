"""The Python face: tasks in, a better target model out."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import platform
import resource
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from avil_fast.checkpoint.resume import Resume, as_resume
from avil_fast.checkpoint.stop import Stop, noting
from avil_fast.checkpointed_run import CheckpointedRun
from avil_fast.config import TrainConfig, dump, from_dotted
from avil_fast.engine.base import Engine
from avil_fast.engine.factory import make_engine, zero_of
from avil_fast.engine.parameters import device_of
from avil_fast.engine.process_group import joined_ranks
from avil_fast.engine.ranks import ALONE, Ranks
from avil_fast.errors import AvilError, Stopped
from avil_fast.methods import find
from avil_fast.methods.loop import Outcome
from avil_fast.metric_loggers import loggers, require_loggers
from avil_fast.observer import Observer, Several
from avil_fast.ops.checks import MAX_TASKS
from avil_fast.randomness import apart, derive_seed
from avil_fast.report import page
from avil_fast.report.folder import RunFolder
from avil_fast.report.round_summary import summary_of_rounds
from avil_fast.run_storage import RunStorage, opened, require_free
from avil_fast.tasks.data_fingerprint import fingerprint
from avil_fast.tasks.data_kinds import about_data, is_dataset, length_of, require_data
from avil_fast.tasks.export import Export
from avil_fast.tasks.task import Scorer, Task


@dataclass(frozen=True)
class Result:
    """What `fit` found. The model that was passed in holds the kept parameters.

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


def fit(
    model: nn.Module, tasks: Sequence[Task], target: str, resume: str | Path | None = None, **options: Any
) -> Result:
    """Train `model` for the target with the help of the other tasks.

    Args:
        model: any module on one device; trained in place.
        tasks: the target and its auxiliaries, at most 64.
        target: name of the target; it needs a dev set.
        resume: "auto" goes on from the newest checkpoint in `output_dir`, if there is one; a path from
            that one, or from the newest of that run.
            Give the same model, tasks and settings as before; what the model holds is overwritten.
        **options: settings of `TrainConfig`, dotted names as keys: `fit(..., rounds=10, **{"alpha.lr": 0.1})`.
            Nothing is written unless `output_dir` is given.

    Raises:
        AvilError: a setting, a task, the data or the checkpoint is wrong; says what and what to do.
        Stopped: SIGINT or SIGTERM came, and the run was saved in `output_dir`.
    """
    config = from_dotted({"target": target, "output_dir": None} | options)
    return train(model, tasks, config, resume=as_resume(resume))


def train(
    model: nn.Module,
    tasks: Sequence[Task],
    config: TrainConfig,
    observer: Observer | None = None,
    baselines: dict[str, dict[str, Any]] | None = None,
    resume: Resume = None,
    home: RunStorage | None = None,
    export: Export | None = None,
) -> Result:
    """`fit` with a checked configuration.

    Args:
        baselines: summaries to report beside the result.
        home: one that is open already; `resume` is its own then.
        export: how the model is saved; by default its parameters, with their names.
    """
    tasks = list(tasks)
    observer, baselines = observer or Observer(), baselines or {}
    with ExitStack() as scope:
        ranks = scope.enter_context(
            joined_ranks(device_of(model), config.rank_timeout, always=config.deepspeed is not None)
        )
        if home is None:
            ranks.on_first(lambda: require_free(config, resume))
        target = check_run(tasks, config, ranks)
        if ranks.first:
            for warning in config.warnings():
                warnings.warn(warning, stacklevel=2)
        ranks.require_same(
            "the model", [f"{n} {tuple(p.shape)} {p.dtype} {p.requires_grad}" for n, p in model.named_parameters()]
        )
        home = home or scope.enter_context(opened(config, ranks, resume))
        method = find(config.method)
        trained, granularity = method.trained(tasks, target), method.granularity(config)
        engine = scope.enter_context(_closing(make_engine(model, trained, target, config, ranks, granularity)))
        scope.enter_context(apart(derive_seed(config.seed, "run", ranks.rank), device_of(model)))
        stop = scope.enter_context(noting()) if home.checkpoints else Stop()
        told = ranks.first or observer.on_all_ranks
        recorder = observer if told else Observer()
        if ranks.first and not home.is_baseline:
            written = [_Writer(home.folder)] if home.folder is not None else []
            recorder = Several(*written, observer, *scope.enter_context(loggers(config)))
        keeper = CheckpointedRun(engine, tasks, config, ranks, home, baselines, recorder, stop, export or Export())
        if home.folder is not None:
            home.folder.begin(dump(config), keeper.run.history)
        scope.callback(keeper.abandon)
        outcome = keeper.run.run()
        saved = keeper.finish()
        (number,) = ranks.max(stop.signal)
        if number and home.is_baseline:  # it came after the last point, and what follows is not to begin
            raise Stopped(number, "go on with --resume auto")
        summary = _summary(tasks, config, outcome) | {"baselines": baselines}
        held = asdict(engine.memory()) | {"peak": _peak_bytes(device_of(model))}
        summary |= {"ranks": ranks.size, "memory": held, "checkpoints": saved}
        folder = home.folder
        if folder is not None:
            report = page.render(summary, outcome.history, dump(config))
            folder.write_result(engine.weights(), report, summary, export)
        elif config.output_dir is not None:
            deque(engine.weights(), maxlen=0)  # the first rank gathers them, and all take part
    names = [task.name for task in tasks]
    history = outcome.history
    return Result(
        tasks=names,
        target=config.target,
        alphas=np.array([[row["alpha"][name] for name in names] for row in history]),
        weights=np.array([[1.0] * len(names), *([row["weight"][name] for name in names] for row in history)]),
        history=history,
        summary=summary,
        model=model,
    )


@contextmanager
def _closing(engine: Engine) -> Iterator[Engine]:
    """The engine, which is closed at the end, together with the other ranks unless something failed."""
    try:
        yield engine
    except BaseException:
        engine.abandon()
        raise
    engine.close()


def check_run(tasks: Sequence[Task], config: TrainConfig, ranks: Ranks = ALONE) -> int:
    """Refuse, before anything is trained or written, what cannot end well; the index of the target."""
    target = check_tasks(tasks, config)
    require_loggers(config)
    require_packages(config.method)
    zero = zero_of(config, ranks.size)
    deepspeed = json.dumps(zero.settings, sort_keys=True) if zero else ""
    data = [json.dumps(about_data(task)) for task in tasks]
    ranks.require_same("what the ranks train", [*dump(config).splitlines(), deepspeed, *data])
    if ranks.size > 1:
        ranks.require_same("the data", [line for task in tasks for line in fingerprint(task)])
    return target


def require_packages(method: str) -> None:
    """Refuse a method whose packages are not all there."""
    missing = [name for name in find(method).packages if importlib.util.find_spec(name) is None]
    if missing:
        raise AvilError(
            f"the method {method} needs {', '.join(missing)}, which is missing; install the extra conflicts: "
            f"pip install 'avil-fast[conflicts]'"
        )


def check_tasks(tasks: Sequence[Task], config: TrainConfig) -> int:
    """Refuse tasks that cannot be trained; the index of the target."""
    names = [task.name for task in tasks]
    if not 1 <= len(tasks) <= MAX_TASKS:
        raise AvilError(f"there are {len(tasks)} tasks, but there must be 1 to {MAX_TASKS}")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise AvilError(f"two tasks are named {twice!r}; rename one")
    if config.target not in names:
        raise AvilError(f"target is {config.target!r}, but the tasks are {', '.join(names)}; name one of them")
    for task in tasks:
        for split in ("train", "dev", "test"):
            data = getattr(task, split)
            if data is not None:
                require_data(data, f"task {task.name!r}: its {split} set")
    target = names.index(config.target)
    if config.finetune.epochs and length_of(tasks[target].train) is None:
        raise AvilError(
            f"target {config.target!r}: its train iterable has no len(), so there is no telling what an epoch of "
            f"the fine-tune is; set finetune.epochs to 0"
        )
    if tasks[target].dev is None:
        raise AvilError(f"target {config.target!r} has no dev set, which α is learned on; give it one")
    return target


def _peak_bytes(device: torch.device) -> int:
    """The most memory that this process has had: of the GPU where the model is on one, else of the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _Writer(Observer):
    """Writes rounds to the run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.round = folder.append_metrics  # type: ignore[method-assign]


def metric_of(tasks: Sequence[Task], target: str) -> dict[str, Any] | None:
    """What is known of the target's metric."""
    metric = next(task.metric for task in tasks if task.name == target)
    if metric is None:
        return None
    if isinstance(metric, Scorer):
        percent = bool(getattr(metric, "percent", False))
        return {"name": metric.name, "higher_is_better": metric.higher_is_better, "percent": percent}
    return {"name": getattr(metric, "__name__", "metric"), "higher_is_better": True, "percent": True}


def _examples(task: Task) -> dict[str, int]:
    """How many a task has by split, of those that are known."""
    data = {split: getattr(task, split) for split in ("train", "dev", "test")}
    return {split: len(own) for split, own in data.items() if is_dataset(own) and length_of(own) is not None}


def _summary(tasks: Sequence[Task], config: TrainConfig, outcome: Outcome) -> dict[str, Any]:
    names = [task.name for task in tasks]
    return {
        "method": config.method,
        "preset": config.preset,
        "target": config.target,
        "metric": metric_of(tasks, config.target),
        "tasks": names,
        "seed": config.seed,
        "rounds": len(outcome.history),
        "best_round": outcome.best_round,
        "finetune_epoch": outcome.finetune_epoch,
        "dev_loss": outcome.dev.loss,
        "dev_metric": outcome.dev.metric,
        "dev_held_out": outcome.dev_held_out,
        "test_loss": outcome.test.loss if outcome.test and math.isfinite(outcome.test.loss) else None,
        "test_metric": outcome.test.metric if outcome.test else None,
        **summary_of_rounds(config, names, outcome.history, outcome.best_round),
        "steps": outcome.steps,
        "rejected_steps": outcome.rejected_steps,
        "rejected_alpha_steps": sum(row["rejected_alpha_steps"] for row in outcome.history),
        "examples_seen": outcome.examples_seen,
        "dev_passes": outcome.dev_passes,
        "examples": {task.name: _examples(task) for task in tasks},
        "seconds": outcome.seconds,
        "cpu_seconds": outcome.cpu_seconds,
        "versions": {
            "avil_fast": importlib.metadata.version("avil-fast"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
