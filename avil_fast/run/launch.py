"""A run from the command line: build the tasks, train, run the baselines, print what came out."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from avil_fast.checkpoint.resume import Resume
from avil_fast.config import Config, load
from avil_fast.console import Console
from avil_fast.engine.factory import zero_of
from avil_fast.engine.process_group import joined_ranks, local_device
from avil_fast.engine.zero.config import ZeroConfig
from avil_fast.errors import AvilError, Diverged
from avil_fast.methods.finetune import trains_on_dev
from avil_fast.observer import Observer, Observers
from avil_fast.report.live import Live
from avil_fast.report.summary import metric_of
from avil_fast.run import training
from avil_fast.run.checks import check_run, require_packages
from avil_fast.run.storage import RunStorage, open_storage, require_free
from avil_fast.stdout import JsonLines
from avil_fast.tasks.from_config import build
from avil_fast.tasks.task import Task


def train(
    path: Path | None,
    overrides: Sequence[str],
    deepspeed_config: Path | None = None,
    resume: Resume = None,
    *,
    watch_port: int | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> training.Result:
    """Train as a config file says (None: the bundled digits), with its baselines first, or go on with such a run.

    Under a launcher (deepspeed, torchrun) every rank calls this; the first one speaks.

    Args:
        watch_port: of 127.0.0.1, where the report is served while the run goes on, 0 for any free one; None serves
            none.
        as_json: print a line of JSON for every round and for the result, and nothing else.
        quiet: print nothing.
    """
    config = load(path, overrides)
    if deepspeed_config is not None:
        config = config.model_copy(update={"deepspeed": deepspeed_config})
    device = local_device(pick_device(config.device, under_deepspeed=config.deepspeed is not None))
    with joined_ranks(device, config.rank_timeout, always=config.deepspeed is not None) as ranks:
        console = Console(quiet=quiet or as_json or not ranks.first, of_run=True)
        zero3 = start_zero(zero_of(config, ranks.size), device)
        model, tasks, model_format = build(config, zero3)
        ranks.on_first(lambda: require_free(config, resume))
        target = check_run(tasks, config, ranks)
        planned = {name: baseline_of(config, name) for name in baseline_methods(config, tasks, target)}
        for method in planned:
            require_packages(method)
        with open_storage(config, ranks, resume) as storage:
            baselines = dict(storage.baselines)
            lines = JsonLines(config.method) if as_json and ranks.first else None
            with ExitStack() as scope:
                live = None
                if watch_port is not None and ranks.first:
                    names = [task.name for task in tasks]
                    live = Live(config, names, metric_of(tasks, config.target), baselines, watch_port)
                    scope.enter_context(live)
                    where = f"the report of this run: {live.address}"
                    print(where, file=sys.stderr if as_json else sys.stdout, flush=True)
                for method, plain in planned.items():
                    if method not in baselines:
                        its_storage = storage.of_baseline(method, plain, ranks)
                        watching = live.of_baseline(method, plain.rounds) if live is not None else None
                        baselines[method] = run_baseline(plain, device, console, zero3, its_storage, watching)
                progress = scope.enter_context(console.running(config.method, config.rounds))
                observer = Observers(progress, *filter(None, (lines, live)))
                result = training.train(
                    model.to(device),
                    tasks,
                    config,
                    observer,
                    baselines,
                    storage=storage,
                    model_format=model_format,
                )
                if live is not None:
                    live.ended(result.summary)
        if lines is not None:
            lines.result(result.summary, config.output_dir)
        console.result(result, config.output_dir)
        return result


def baseline_methods(config: Config, tasks: Sequence[Task], target: int) -> list[str]:
    """The methods that are run beside the run's own."""
    methods = config.baselines
    if methods == "auto":
        methods = ("single_all" if trains_on_dev(tasks, target, config) else "single",)
    return [method for method in methods if method != config.method]


def baseline_of(config: Config, method: str) -> Config:
    """The same run with another method and its default options, that writes nothing of its own."""
    return config.model_copy(update={"method": method, "options": {}, "output_dir": None, "baselines": ()})


def run_baseline(
    plain: Config,
    device: torch.device,
    console: Console,
    zero3: dict[str, Any] | None = None,
    storage: RunStorage | None = None,
    watching: Observer | None = None,
) -> dict[str, Any]:
    """Train a fresh model as `baseline_of` says, on the same tasks and budget; its summary.

    Args:
        watching: is told how it goes, as the console is.

    Raises:
        Diverged: says that it was this baseline.
    """
    model, tasks, _ = build(plain, zero3)
    with console.running(plain.method, plain.rounds) as progress:
        observer = Observers(progress, *filter(None, [watching]))
        try:
            return training.train(model.to(device), tasks, plain, observer, storage=storage).summary
        except Diverged as error:
            raise Diverged(f"the baseline {plain.method}: {error}; baselines=[] trains without it") from error


def start_zero(zero: ZeroConfig | None, device: torch.device) -> dict[str, Any] | None:
    """Make ready for ZeRO, if it is on; DeepSpeed's settings if models are to be loaded in shards (stage 3)."""
    if zero is None or zero.stage == 0:
        return None
    from avil_fast.engine.zero import setup

    setup.join(device)
    setup.check(zero.settings, zero.name)
    return zero.settings if zero.stage == 3 else None


def pick_device(name: str, under_deepspeed: bool = False) -> torch.device:
    """The device that a config names; auto: a GPU if there is one, unless DeepSpeed is told to run on the CPU.

    Raises:
        AvilError: torch sees no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise AvilError("device is 'cuda', but torch sees no GPU; set device=cpu or install a CUDA build of torch")
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available() and under_deepspeed and os.environ.get("DS_ACCELERATOR") == "cpu":
        if os.environ.get("RANK", "0") == "0":
            warnings.warn("on the CPU, as DS_ACCELERATOR says; unset it to train on the GPU", stacklevel=2)
        return torch.device("cpu")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
