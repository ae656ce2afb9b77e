"""transformers' Trainer with avil's loop in place of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer, TrainerCallback

from avil_fast.config import TrainConfig
from avil_fast.errors import AvilError, told_in
from avil_fast.run.training import Result
from avil_fast.run.training import train as train_tasks
from avil_fast.tasks.task import Batch, Task
from avil_fast.trainer.datasets import IndexedDataset, label_counts, require_datasets
from avil_fast.trainer.events import Events
from avil_fast.trainer.metric import ComputedMetric
from avil_fast.trainer.settings import (
    WORDS,
    config_of,
    require_called,
    require_savable,
    require_supported,
    resume_of,
)


class AvilTrainer(Trainer):  # type: ignore[misc]  # transformers is not type-checked
    """Trains a model for one target task with the help of auxiliary datasets, and learns which of them help.

    The loop is αVIL's; losses, evaluation, logs, callbacks and saving are Trainer's. Arguments that are not
    listed here are those of Trainer.

    Args:
        args: `TrainingArguments`. One that cannot be honoured is refused.
        target: a name in `train_datasets`.
        train_datasets: by task. A task's loss is `compute_loss` on batches of its dataset.
        eval_dataset: the target's dev set, on which α is learned, and which `evaluate` measures.
        test_dataset: of the target; measured after every round, never learned from.
        heads: by task, the prefix of the names of the parameters that only this task's loss uses.
        avil: settings of `TrainConfig` with dotted names, e.g. {"rounds": 5, "alpha.lr": 0.1}; they go before
            `args`.
        optimizers: refused; the loop makes an optimizer for each task.

    Attributes:
        result: what `train` found, α and weights by round among it; None before.

    Raises:
        AvilError: an argument, a setting or a dataset is wrong; says what to do.
    """

    control: Any

    def __init__(
        self,
        model: nn.Module,
        args: Any,
        *,
        target: str,
        train_datasets: Mapping[str, Any],
        eval_dataset: Any = None,
        test_dataset: Any = None,
        data_collator: Any = None,
        processing_class: Any = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        compute_loss_func: Callable[..., Tensor] | None = None,
        callbacks: list[Any] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        heads: Mapping[str, str] | None = None,
        avil: Mapping[str, Any] | None = None,
        optimizers: Any = None,
    ) -> None:
        if not hasattr(Trainer, "_finalize_training"):
            raise AvilError("AvilTrainer needs transformers 5; pip install 'transformers>=5'")
        if optimizers not in (None, (None, None)):
            raise AvilError("optimizers is given, but every task has one of its own; set args.optim and the rest")
        require_called(type(self), Trainer)
        require_supported(args)
        require_datasets(target, train_datasets, eval_dataset, test_dataset, heads or {})
        self.target, self.heads, self.avil = target, dict(heads or {}), dict(avil or {})
        self.train_datasets, self.test_dataset = dict(train_datasets), test_dataset
        self.result: Result | None = None
        self.args = args
        self._config()  # refuses settings at once
        args.average_tokens_across_devices = (
            False  # losses are means over a rank's part, and the engine weighs them
        )
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_datasets[target],
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_loss_func=compute_loss_func,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )

    def train(
        self,
        resume_from_checkpoint: str | Path | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Train, and leave the best model in place.

        Args:
            resume_from_checkpoint: True: the newest checkpoint of the run; or the path of one.
            trial: must be None.
            ignore_keys_for_eval: see Trainer.

        Returns:
            transformers' `TrainOutput`.

        Raises:
            AvilError: the data, a setting or the checkpoint is wrong.
            Stopped: SIGINT or SIGTERM came, and the run was saved.
        """
        self._resume = resume_of(resume_from_checkpoint, self._config().output_dir)
        try:
            return super().train(trial=trial, ignore_keys_for_eval=ignore_keys_for_eval)
        finally:
            self.is_in_train = False

    def _inner_training_loop(
        self,
        batch_size: int | None = None,
        args: Any = None,
        resume_from_checkpoint: Any = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """avil's loop, with Trainer's beginning and end."""
        config, self._ignore_keys = self._config(), ignore_keys_for_eval
        require_supported(self.args)
        require_savable(self.args, config)
        self._require_callbacks()
        self.accelerator.free_memory()
        tasks = self._tasks()
        self._events = events = Events(self, tasks, config, ignore_keys_for_eval)
        saved = (
            self._resume.parent.parent if isinstance(self._resume, Path) else self._resume and config.output_dir
        )
        self._init_training_state(events.max_steps, events.steps_per_round, events.epochs, saved, trial)
        self._start_time = time.time()
        self._tr_loss, self._total_loss_scalar = torch.tensor(0.0, device=self.args.device), 0.0
        self._initial_global_step = self._globalstep_last_logged = self.state.global_step
        self._initial_num_input_tokens_seen = self.state.num_input_tokens_seen
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        if self.args.eval_on_start:
            self._evaluate(trial, ignore_keys_for_eval, skip_scheduler=True)
        with told_in(WORDS):
            self.result = train_tasks(self.model, tasks, config, events, resume=self._resume)
        summary = self.result.summary
        self.log({name: summary[name] for name in ("best_round", "finetune_epoch", "dev_loss")})
        return self._finalize_training(trial, events.max_steps * config.batch_size, self._start_time)

    def _config(self) -> TrainConfig:
        return config_of(self.args, self.target, self.avil)

    def _tasks(self) -> list[Task]:
        collate = self._get_collator_with_removed_columns(self.data_collator, description="training")
        metric = self._scorer()
        return [
            Task(
                name,
                train=self._examples(data),
                loss=self._task_loss,
                dev=self._examples(self.eval_dataset) if name == self.target else None,
                test=self._examples(self.test_dataset)
                if name == self.target and self.test_dataset is not None
                else None,
                metric=metric if name == self.target else None,
                head=self.heads.get(name),
                collate=collate,
            )
            for name, data in self.train_datasets.items()
        ]

    def _examples(self, data: Any) -> IndexedDataset:
        """The dataset without columns that the model does not take."""
        if not hasattr(data, "column_names"):
            return IndexedDataset(data)
        counts = label_counts(data, getattr(self, "_loss_shifts_labels", False))
        return IndexedDataset(self._remove_unused_columns(data), counts)

    def _task_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """A scalar: the mean over the batch."""
        inputs = self._prepare_inputs(batch)  # a copy: compute_loss may take the labels out
        training = model.training and torch.is_grad_enabled()
        if training:
            self._events.before_pass()
        count = self._get_num_items_in_batch([inputs], self.args.device)
        if torch.is_tensor(count):
            count = count.clamp(min=1)  # a rank's part may have no label at all
        with self.compute_loss_context_manager():
            loss: Tensor = self.compute_loss(model, inputs, num_items_in_batch=count)
        if training:
            self._events.after_pass(loss)
            self.current_flos += float(self.floating_point_ops(inputs))
            self._track_num_input_tokens(inputs)
        return loss

    def _scorer(self) -> ComputedMetric | None:
        """What chooses the best round; None: the dev loss."""
        name = (self.args.metric_for_best_model or "loss").removeprefix("eval_")
        if name == "loss":
            return None
        if self.compute_metrics is None:
            raise AvilError(f"args.metric_for_best_model is {name!r}, but there is no compute_metrics; pass it")
        return ComputedMetric(self, name)

    def _metrics_of(self, predictions: Any, labels: Any) -> dict[str, float]:
        assert self.compute_metrics is not None
        metrics: dict[str, float] = self.compute_metrics(EvalPrediction(predictions=predictions, label_ids=labels))
        return {name.removeprefix("eval_"): value for name, value in metrics.items()}

    def _require_callbacks(self) -> None:
        for callback in self.callback_handler.callbacks:
            if type(callback).on_pre_optimizer_step is not TrainerCallback.on_pre_optimizer_step:
                raise AvilError(
                    f"callback {type(callback).__name__} has on_pre_optimizer_step, which a run has no place for; "
                    f"use on_optimizer_step, or remove it"
                )

    def _load_best_model(self) -> None:
        """Nothing: the loop has put the best model back, which the fine-tune may have bettered since."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Nothing: moments are in the run's own checkpoints."""
