"""What an AvilTrainer makes of `TrainingArguments`, or why it cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avil_fast.checkpoint.folder import CHECKPOINTS, finished
from avil_fast.checkpoint.manifest import NAME
from avil_fast.checkpoint.resume import Resume, as_resume
from avil_fast.config import TrainConfig, from_dotted
from avil_fast.engine.factory import zero_of
from avil_fast.errors import AvilError

OPTIMIZERS = {"adamw_torch": "adamw", "adamw_torch_fused": "adamw", "sgd": "sgd"}
"""Names of optimizers: Trainer's, and this package's."""

SUBFOLDER = "avil"
"""The run's folder within `args.output_dir`; nothing else may write into it."""

_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "deepspeed": ((), 'pass avil={"deepspeed": "ds.json"}'),
    "fsdp": ((), 'shard with ZeRO, avil={"deepspeed": "ds.json"}'),
    "fp16": ((), "load the model in bfloat16, of which the run keeps fp32 masters"),
    "bf16": ((), "load the model in bfloat16, of which the run keeps fp32 masters"),
    "auto_find_batch_size": ((), "set per_device_train_batch_size and gradient_accumulation_steps"),
    "max_steps": ((-1,), 'pass avil={"rounds": ..., "steps_per_task": ...}'),
    "lr_scheduler_type": (
        ("linear", "constant"),
        "leave it out: rounds train at a constant rate, and the fine-tune after them decays it linearly to 0",
    ),
    "lr_scheduler_kwargs": ((), "leave it out: rounds train at a constant rate"),
    "warmup_steps": ((), "leave it out: rounds train at a constant rate"),
    "warmup_ratio": ((), "leave it out: rounds train at a constant rate"),
    "optim": (tuple(OPTIMIZERS), f"take one of {', '.join(OPTIMIZERS)}"),
    "optim_args": ((), 'pass settings of the optimizer, e.g. avil={"optimizer.momentum": 0.9}'),
    "optim_target_modules": ((), "freeze what is not to be trained"),
    "train_sampling_strategy": (("random",), "leave it out: batches are drawn at random"),
    "group_by_length": ((), "leave it out: batches are drawn at random"),
    "data_seed": ((), "set seed, which decides the order of batches as well"),
    "torch_compile": ((), "leave it out"),
    "parallelism_config": ((), 'shard with ZeRO, avil={"deepspeed": "ds.json"}'),
    "torch_empty_cache_steps": ((), "leave it out"),
    "enable_jit_checkpoint": ((), "leave it out: a run saves itself on SIGTERM"),
    "ignore_data_skip": ((), "leave it out: a run goes on with the batch at which it was saved"),
    "debug": ((), "leave it out"),
    "n_gpu": ((1,), "start a process for each GPU with torchrun, or show it one with CUDA_VISIBLE_DEVICES"),
}
"""Arguments that a run cannot honour: the values that are fine beside "nothing", and what to do instead."""


_NOT_CALLED = (
    "create_optimizer",
    "create_scheduler",
    "create_optimizer_and_scheduler",
    "get_batch_samples",
    "get_train_dataloader",
    "optimizer_step",
    "training_step",
)
"""Methods of Trainer that subclasses override, and that avil's loop has no use for."""


def require_called(kind: type, trainer: type) -> None:
    """Refuse a subclass whose methods would be ignored.

    Args:
        trainer: transformers' own class.

    Raises:
        AvilError: names the class and the method.
    """
    for name in _NOT_CALLED:
        if getattr(kind, name, None) is not getattr(trainer, name, None):
            raise AvilError(
                f"{kind.__name__} overrides {name}, which avil's loop does not call; override compute_loss, or "
                f"pass settings in avil"
            )


def require_supported(args: Any) -> None:
    """Refuse arguments that would be ignored.

    Args:
        args: `TrainingArguments`.

    Raises:
        AvilError: names the first one, its value and what to do.
    """
    for name, (fine, advice) in _REFUSED.items():
        value = getattr(args, name, None)
        value = getattr(value, "value", value)  # of an enum
        if value and value not in fine:
            raise AvilError(f"args.{name} is {value!r}, which AvilTrainer cannot honour; {advice}")


WORDS = {
    "name another, or set overwrite=true": (
        'name another, pass avil={"overwrite": True} to replace it, or call train(resume_from_checkpoint=True) to '
        "train on from it"
    ),
    "set overwrite=true": 'pass avil={"overwrite": True}',
    "overwrite=true": 'avil={"overwrite": True}',
    "go on with --resume auto": "call train(resume_from_checkpoint=True)",
    "with --resume auto": "with train(resume_from_checkpoint=True)",
    "give --resume auto": "call train(resume_from_checkpoint=True)",
    "--resume": "resume_from_checkpoint",
    "output_dir is": "the run's folder is",
}
"""What other layers tell users to do, by the words of the command, and how it is done here."""


def config_of(args: Any, target: str, avil: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a run: `TrainingArguments`, and over them the settings in `avil`.

    Raises:
        AvilError: a setting is unknown or has a wrong value.
    """
    if avil.get("target", target) != target:
        raise AvilError(f"avil has target {avil['target']!r}, but the argument target is {target!r}; leave it out")
    passes, ranks = args.gradient_accumulation_steps, args.world_size
    settings = {
        "rounds": max(1, math.ceil(args.num_train_epochs)),
        "batch_size": args.per_device_train_batch_size * ranks * passes,
        "gradient_accumulation_steps": passes,
        "eval_batch_size": args.per_device_eval_batch_size * ranks,
        "workers": args.dataloader_num_workers,
        "seed": args.seed,
        "output_dir": Path(args.output_dir) / SUBFOLDER,
        "optimizer.name": OPTIMIZERS[getattr(args.optim, "value", args.optim)],
        "optimizer.lr": args.learning_rate,
        "optimizer.betas": (args.adam_beta1, args.adam_beta2),
        "optimizer.eps": args.adam_epsilon,
        "optimizer.weight_decay": args.weight_decay,
        "optimizer.clip_norm": args.max_grad_norm or None,
        "alpha.rounds": None,  # who gives a Trainer an eval_dataset does not expect it to be trained on
    }
    if getattr(args.save_strategy, "value", args.save_strategy) == "no":
        settings["checkpoints.minutes"] = None
    return from_dotted(settings | dict(avil) | {"target": target}, where="avil")


def require_savable(args: Any, config: TrainConfig) -> None:
    """Refuse checkpoints of Trainer's where no process has the whole model.

    Raises:
        AvilError: the run has ZeRO stage 3, and `args.save_strategy` is not "no".
    """
    strategy = getattr(args.save_strategy, "value", args.save_strategy)
    zero = zero_of(config, args.world_size)
    if strategy != "no" and zero is not None and zero.stage == 3:
        raise AvilError(
            f"args.save_strategy is {strategy!r}, but under ZeRO stage 3 no process has the whole model; set "
            f'"no", and avil={{"checkpoints.minutes": 5}} for checkpoints to go on from'
        )


def resume_of(given: str | Path | bool | None, folder: Path | None) -> Resume:
    """The checkpoint that `train(resume_from_checkpoint=given)` goes on from.

    Args:
        folder: of the run.

    Raises:
        AvilError: there is no such checkpoint.
    """
    if given is None or given is False:
        return None
    if given is True:
        if folder is None or not finished(folder / CHECKPOINTS):
            raise AvilError(
                f"resume_from_checkpoint is True, but there is no checkpoint in {str(folder)!r}; pass None"
            )
        return "auto"
    path = as_resume(given)
    assert isinstance(path, Path)
    if not (path / NAME).is_file():
        raise AvilError(
            f"resume_from_checkpoint is {str(given)!r}, which no run can go on from; pass True, or a folder in "
            f"{str(folder and folder / CHECKPOINTS)!r}"
        )
    return path
