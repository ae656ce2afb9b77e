"""The events, logs and state of transformers' Trainer, from what avil's loop tells of a run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avil_fast.config import TrainConfig
from avil_fast.errors import reason
from avil_fast.methods import find
from avil_fast.methods.data import TaskData
from avil_fast.methods.finetune import finetune_data
from avil_fast.observer import Observer, Rows
from avil_fast.randomness import derive_seed, isolated
from avil_fast.report.place import TRAINER_STATE
from avil_fast.run.metric_loggers import scalars
from avil_fast.tasks.task import Task


class Events(Observer):
    """Drives a Trainer's callbacks. A round is an epoch, and so is a pass of the fine-tune.

    What a callback asks for within an epoch, an evaluation or a checkpoint, is done at its end: in between the
    model is that of one task on its way, and not θ.

    Args:
        trainer: whose callbacks, state and `log` are used.
        tasks, config: of the run.
        ignore_keys: of the model's outputs, for `evaluate`.
    """

    on_all_ranks = True

    def __init__(
        self, trainer: Any, tasks: Sequence[Task], config: TrainConfig, ignore_keys: list[str] | None
    ) -> None:
        self._trainer, self._config, self._ignore_keys = trainer, config, ignore_keys
        names = [task.name for task in tasks]
        target = names.index(config.target)
        tasks = find(config.method).trained(tasks, target)
        data = TaskData(tasks, config, finetune=finetune_data(tasks, target, config))
        self._steps = {task.name: data.steps(i) for i, task in enumerate(tasks)}
        self.steps_per_round = data.steps_per_round
        epochs = config.finetune.epochs
        self._pass = data.finetune_steps(target) if epochs else 0
        self.epochs = config.rounds + epochs
        self.max_steps = config.rounds * self.steps_per_round + epochs * self._pass
        self._varies = config.weights.rule != "off" and config.weights.apply == "sampling"
        """Weights change the number of steps, so `max_steps` is a guess."""
        self._rounds = 0
        self._first_step = 0
        """Where the present round began."""
        self._lr = config.optimizer.lr
        self._losses: list[Tensor] = []
        self._in_epoch = self._in_step = False
        self._evaluate_due = self._save_due = False
        self._warned = False
        """That Trainer's state cannot be written has been told."""

    def before_pass(self) -> None:
        """A forward pass of training begins."""
        trainer, handler = self._trainer, self._trainer.callback_handler
        event = handler.on_substep_end if self._in_step else handler.on_step_begin
        if not self._in_epoch:
            trainer.control = handler.on_epoch_begin(trainer.args, trainer.state, trainer.control)
        self._in_epoch = self._in_step = True
        trainer.control = event(trainer.args, trainer.state, trainer.control)

    def after_pass(self, loss: Tensor) -> None:
        """A forward and backward pass of training has ended with this loss, a scalar."""
        self._losses.append(loss.detach())

    def progress(self, task: str, step: int, steps: int, loss: Tensor) -> None:
        trainer, handler, state = self._trainer, self._trainer.callback_handler, self._trainer.state
        loss = torch.stack(self._losses).mean()
        logged = max(1, state.global_step - trainer._globalstep_last_logged)
        trainer._tr_loss += torch.where(loss.isfinite(), loss, trainer._tr_loss / logged)  # as Trainer does
        self._losses = []
        self._in_step = False
        state.global_step += 1
        self._lr = self._config.optimizer.lr
        if finetuning := self._rounds == self._config.rounds:
            state.epoch = self._rounds + step / self._pass
            self._lr *= 1 - (step - 1) / steps
        else:
            taken = (state.global_step - self._first_step) / self.steps_per_round
            state.epoch = self._rounds + min(1.0, taken)
        if self._varies:
            state.max_steps = max(state.max_steps, state.global_step + 1)
        for event in (handler.on_optimizer_step, handler.on_step_end):
            trainer.control = event(trainer.args, state, trainer.control)
        control = trainer.control
        self._evaluate_due |= control.should_evaluate
        self._save_due |= control.should_save
        control.should_evaluate = control.should_save = False
        self._log_save_evaluate()
        if finetuning and step % self._pass == 0:
            self._end_epoch()

    def round(self, row: dict[str, Any]) -> None:
        state = self._trainer.state
        self._rounds = row["round"]
        self._first_step, state.epoch = state.global_step, float(self._rounds)
        self._end_epoch(row)

    def enough(self) -> bool:
        """Whether a callback stopped the run."""
        return bool(self._trainer.control.should_training_stop)

    def resumed(self, checkpoint: Path, where: dict[str, Any], history: Rows) -> None:
        state = self._trainer.state
        rounds = self._rounds = len(history)
        self._first_step = rounds * self.steps_per_round
        state.global_step = self._first_step + self._steps_into(where)
        state.epoch = float(rounds)
        state.log_history = [
            entry
            for entry in state.log_history
            if entry["step"] < state.global_step or entry.get("epoch", 0) <= rounds
        ]
        self._trainer._initial_global_step = self._trainer._globalstep_last_logged = state.global_step

    def _steps_into(self, where: dict[str, Any]) -> int:
        """Steps since the last round that is done."""
        match where["phase"]:
            case "training":
                before = list(self._steps.values())[: where["turn"]]
                return int(where["step"]) + sum(before)
            case "α":
                return self.steps_per_round
            case "fine-tune":
                return (int(where["epoch"]) - 1) * self._pass + int(where["step"])
            case "done":
                return self._config.finetune.epochs * self._pass
            case _:
                return 0

    def _end_epoch(self, row: dict[str, Any] | None = None) -> None:
        trainer, args, state = self._trainer, self._trainer.args, self._trainer.state
        seed = derive_seed(self._config.seed, "trainer", state.global_step)
        with isolated(seed, args.device):  # an evaluation draws random numbers, and a run must not notice
            trainer.control = trainer.callback_handler.on_epoch_end(args, state, trainer.control)
            if row is not None:
                trainer.log(scalars(row))
            control = trainer.control
            control.should_evaluate |= self._evaluate_due
            control.should_evaluate |= args.eval_strategy == "steps" and args.eval_delay <= state.global_step
            control.should_save |= self._save_due
            self._log_save_evaluate()
        self._in_epoch = self._evaluate_due = self._save_due = False
        folder = self._config.output_dir
        if folder is not None and state.is_world_process_zero:
            self._save_state(folder / TRAINER_STATE)

    def _save_state(self, path: Path) -> None:
        """Write it whole, or leave the one of an epoch before where the disk is full."""
        partial = path.with_name(path.name + ".partial")
        try:
            self._trainer.state.save_to_json(str(partial))
            os.replace(partial, path)
        except OSError as error:
            if not self._warned:
                warnings.warn(f"{str(path)!r} cannot be written: {reason(error)}; training goes on", stacklevel=2)
            self._warned = True

    def _log_save_evaluate(self) -> None:
        trainer = self._trainer
        trainer._maybe_log_save_evaluate(
            trainer._tr_loss,
            None,  # the gradient's norm, which the engine keeps to itself
            trainer.model,
            None,
            trainer.state.epoch,
            self._ignore_keys,
            trainer._start_time,
            learning_rate=self._lr,
        )
