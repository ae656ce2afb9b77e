"""What is refused before anything is trained or written, as it cannot end well."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from avil_fast.checkpoint.file_format import DTYPES
from avil_fast.config import TrainConfig, dump
from avil_fast.engine.factory import zero_of
from avil_fast.engine.parameters import device_of
from avil_fast.engine.ranks import ALONE, Ranks
from avil_fast.errors import AvilError
from avil_fast.methods import find
from avil_fast.names import repeated
from avil_fast.ops.backend import BackendError, require_known
from avil_fast.ops.checks import MAX_TASKS
from avil_fast.run.metric_loggers import require_loggers
from avil_fast.tasks.data_fingerprint import fingerprint
from avil_fast.tasks.data_kinds import about_data, is_dataset, length_of, require_data
from avil_fast.tasks.task import Task


def check_run(tasks: Sequence[Task], config: TrainConfig, ranks: Ranks = ALONE) -> int:
    """Refuse settings, tasks, data and packages that a run cannot end well with, and ranks that differ in them.

    Returns:
        The index of the target.

    Raises:
        AvilError: says what is wrong and what to do.
    """
    require_backend()
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


FEW_DEV_EXAMPLES = 10
"""With fewer, α follows single examples."""


def data_warnings(tasks: Sequence[Task], target: int, config: TrainConfig) -> list[str]:
    """Tasks and data that are allowed, but of which αVIL can learn little; a sentence each."""
    if config.method != "avil":
        return []
    found, name, dev = [], tasks[target].name, tasks[target].dev
    if len(tasks) == 1:
        found.append(
            f"there is no auxiliary beside the target {name!r}, so that α says nothing; add one, or set "
            f"method=single"
        )
    if dev is not None and is_dataset(dev) and (count := length_of(dev) or 0) < FEW_DEV_EXAMPLES:
        found.append(
            f"α is learned on {count} dev example{'s' * (count != 1)} of {name!r}, which is too few to trust; "
            f"give it {FEW_DEV_EXAMPLES} at the least, better 100"
        )
    return found


def require_backend() -> None:
    """Refuse an AVIL_BACKEND or AVIL_ISA that operations on deltas cannot run with."""
    try:
        require_known()
    except BackendError as obstacle:
        raise AvilError(str(obstacle)) from obstacle


def check_model(model: nn.Module, config: TrainConfig) -> None:
    """Refuse a model, or surroundings of `fit`, that would fail in a step, when it is saved, or in silence.

    Raises:
        AvilError: says what is wrong and what to do.
    """
    if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
        raise AvilError(
            "fit was called where gradients are off; call it outside of no_grad() and inference_mode()"
        )
    tensors = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in tensors:
        if is_lazy(tensor):
            raise AvilError(f"{name!r} of the model is not made yet; call the model on a batch before fit")
    device = device_of(model).type
    if torch.is_autocast_enabled(device):  # its casts of parameters would be those of the first step for ever
        raise AvilError("fit was called within torch.autocast; open it in the tasks' losses and metrics instead")
    if config.output_dir is None:
        return
    for name, tensor in tensors:
        if tensor.dtype not in DTYPES or tensor.layout is not torch.strided:
            kind = str(tensor.dtype if tensor.dtype not in DTYPES else tensor.layout).removeprefix("torch.")
            raise AvilError(
                f"{name!r} of the model is {kind}, which output_dir cannot hold; keep it in another form, or "
                f"train without output_dir"
            )


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
    if (twice := repeated(names)) is not None:
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
