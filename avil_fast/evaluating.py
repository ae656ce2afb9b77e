"""A finished run's model, measured again: on its own dev and test sets, or on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avil_fast.config import Config, load
from avil_fast.config.model import ConvNetConfig
from avil_fast.config.text_tasks import TextTasksConfig
from avil_fast.engine.evaluation import Evaluator
from avil_fast.engine.ranks import ALONE
from avil_fast.engine.results import Evaluation
from avil_fast.errors import AvilError
from avil_fast.report.headline_metric import held_out
from avil_fast.report.place import CONFIG, MODEL
from avil_fast.report.run import FinishedRun, read
from avil_fast.report.summary import metric_of
from avil_fast.report.weights import read_weights
from avil_fast.run.launch import pick_device
from avil_fast.tasks.batch_sharding import ALL, to_device
from avil_fast.tasks.data_kinds import is_dataset, length_of
from avil_fast.tasks.from_config import build
from avil_fast.tasks.loading import in_order
from avil_fast.tasks.task import Task


@dataclass(frozen=True)
class Evaluated:
    """What came out.

    Attributes:
        run: whose model it is.
        metric: what is known of the target's metric, as in summary.json.
        splits: "dev" and "test", where there is one.
        examples: how many were measured, by split; none of data that has no length.
        held_out: by split, whether the run was not trained on it.
    """

    run: FinishedRun
    metric: dict[str, Any] | None
    splits: dict[str, Evaluation]
    examples: dict[str, int]
    held_out: dict[str, bool]

    def as_json(self) -> dict[str, Any]:
        """What was measured by split, in JSON's types."""
        splits = {
            split: {
                "examples": self.examples.get(split),
                "loss": of.loss,
                "metric": of.metric,
                "held_out": self.held_out[split],
            }
            for split, of in self.splits.items()
        }
        return {"run": str(self.run.path), "target": self.run.summary["target"], "metric": self.metric, **splits}


def evaluate(run: Path, overrides: Sequence[str] = (), test: Sequence[Path] = ()) -> Evaluated:
    """Measure the target.

    Args:
        run: the folder of a finished run.
        overrides: settings other than the run's: device, eval_batch_size, the target's files and columns.
        test: files to measure on in place of the run's own dev and test sets, of which nothing is needed then.

    Raises:
        AvilError: the run is not finished, its model or data cannot be used, or an override would measure it on
            what it was trained on.
    """
    finished = read(run)
    if "tasks" not in finished.settings:
        raise AvilError(
            f"{str(run)!r} is a run of fit() or of a Trainer, whose model and data are in no file; measure its "
            f"model in Python"
        )
    given = load(run / CONFIG, overrides)
    for override in overrides:
        _require_measuring(override.partition("=")[0].strip(), given, by_files=bool(test))
    config = _alone(given, run)
    device = pick_device(config.device)
    model, tasks = _on_files(config, test) if test else build(config)[:2]
    if not isinstance(config.tasks, TextTasksConfig):
        read_weights(run / MODEL.parent, model)
    model.to(device).eval()
    target = next(task for task in tasks if task.name == config.target)
    measure = Evaluator(lambda function, batch: function(model, batch), ALONE, device)
    seen = not held_out(finished.summary) and _has_own_dev(given, load(run / CONFIG))
    found = {split: data for split, data in (("dev", target.dev), ("test", target.test)) if data is not None}
    splits = {split: _measured(measure, target, data, config, device) for split, data in found.items()}
    lengths = {split: length_of(data) for split, data in found.items() if is_dataset(data)}
    return Evaluated(
        finished,
        metric_of(tasks, config.target),
        splits,
        {split: length for split, length in lengths.items() if length is not None},
        {split: not (seen and split == "dev") for split in found},
    )


def _require_measuring(name: str, config: Config, by_files: bool) -> None:
    """Refuse a setting that draws other rows for train, dev and test than the run did, or that changes nothing.

    Args:
        by_files: files to measure on are named, which take the place of the task's own data.
    """
    on_images = not isinstance(config.tasks, TextTasksConfig)
    inner = name.removeprefix("tasks." if on_images else f"tasks.{config.target}.")
    if name == "seed" or inner.startswith("hold_out") or inner == "limits.train":
        raise AvilError(
            f"{name} decides which rows the run was trained on, and with another it would be measured on some of "
            f"these; leave it out, or name files to measure on with --test"
        )
    if inner != name and inner in ("kind", "labels"):
        raise AvilError(
            f"{name} says what the outputs of the model stand for, which its training has decided; leave it out"
        )
    if by_files and inner != name and inner.startswith(("files", "dataset", "subset", "splits")):
        raise AvilError(f"{name} is set, but --test names the files to measure on; leave one of them out")
    of_training = on_images and inner in ("train", "auxiliary_train", "auxiliaries")
    if of_training or (inner == name and name not in ("device", "eval_batch_size", "workers")):
        raise AvilError(f"{name} changes nothing of an evaluation; leave it out")


def _has_own_dev(given: Config, own: Config) -> bool:
    """Whether the dev set that the settings name is that of the run."""
    if not (isinstance(given.tasks, TextTasksConfig) and isinstance(own.tasks, TextTasksConfig)):
        return True
    from avil_fast.tasks.text.sources import same_source

    here, there = (tasks.by_name[own.target] for tasks in (given.tasks, own.tasks))
    is_held_out = there.hold_out is not None and there.hold_out.dev is not None
    return same_source(here, there, "train" if is_held_out else "dev")


def _on_files(config: Config, files: Sequence[Path]) -> tuple[nn.Module, list[Task]]:
    """The run's model, and the target with these files as its test set."""
    if not isinstance(config.tasks, TextTasksConfig):
        raise AvilError("--test names files, but the run's tasks are on images, which are drawn; leave it out")
    from avil_fast.tasks.text.build import build_test

    assert not isinstance(config.model, ConvNetConfig)
    task = config.tasks.by_name[config.target]
    model, measured = build_test(config.target, task, config.model, files)
    return model, [measured]


def _alone(config: Config, run: Path) -> Config:
    """The target without its auxiliaries, on the model that the run saved, with the classes of this."""
    if not isinstance(config.tasks, TextTasksConfig):
        return config  # all heads are in one file
    assert not isinstance(config.model, ConvNetConfig)
    folder = run / MODEL.parent
    if not (folder / "config.json").is_file():
        raise AvilError(f"{str(run)!r} has no model that can be loaded; its folder model lacks config.json")
    settings = {"path": str(folder), "lora": None} | (
        {"init": "saved"} if config.model.name == "causal_lm" else {}
    )
    model, task = config.model.model_copy(update=settings), config.tasks.by_name[config.target]
    if task.kind == "classification":  # by others, as other files may have, transformers would draw a new head
        from avil_fast.tasks.text.loading import class_names, settings_of

        task = task.model_copy(update={"labels": class_names(settings_of(model))})
    tasks = TextTasksConfig.model_validate({config.target: task})
    return config.model_copy(update={"model": model, "tasks": tasks})


def _measured(measure: Evaluator, task: Task, data: Any, config: Config, device: torch.device) -> Evaluation:
    batches = in_order(data, config.eval_batch_size, task.collate, config.workers)
    return measure.evaluate(task, (ALL.cut(to_device(batch, device)) for batch in batches))
