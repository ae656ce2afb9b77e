"""The optimizer that ZeRO steps: a base optimizer whose moments and parameter groups belong to a task.

ZeRO gives it this rank's flat partitions and calls `step` for one group, or a part of one, at a time. An
idle head would be moved there by momentum and weight decay, so only groups of the task that trains are stepped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avil_fast.engine.optimizer import new_moments, torch_optimizer

if TYPE_CHECKING:
    from avil_fast.config import OptimizerConfig

Group = dict[str, Any]


class ByTask(torch.optim.Optimizer):
    """What `by_task` adds to a base optimizer; every group has a `task`, None for shared parameters."""

    _turn: int | None = None
    _loss_of: int | None = None
    _states: dict[int, Any]
    _reset: bool
    _counts_in_python = False
    """DeepSpeed's optimizers count steps in an int, torch's in a tensor."""

    def keep_moments(self, reset: bool) -> None:
        """Begin without moments; with `reset`, every task's are set to zero when it begins."""
        self._reset = reset
        self._states = {}

    def begin_task(self, task: int) -> None:
        """Step the shared groups and the task's head from now on, with the task's own moments."""
        self.state = self._of_task(task)
        if self._reset:
            _clear_(self.state)
        self._turn = self._loss_of = task

    def on_loss_of(self, task: int) -> None:
        """Step this task's head from now on, with its own moments; shared groups with those of the turn."""
        self._loss_of = task

    def _of_task(self, task: int) -> Any:
        return self._states.setdefault(0 if self._reset else task, defaultdict(dict))

    def lend_moments(self) -> None:
        """Where the head that is stepped is another's than the turn's, have its own moments at hand."""
        if self._reset or self._loss_of is None or self._loss_of == self._turn:
            return
        own = self._of_task(self._loss_of)
        for group in self.param_groups:
            if group["task"] is not None:
                self.state.update({partition: own[partition] for partition in group["params"]})

    @property
    def resets(self) -> bool:
        """No moments outlive a turn."""
        return self._reset

    def moments(self, task: int) -> Any:
        """The state of a task by partition, empty if it has none; with `resets` that of all in the turn."""
        if self._reset:
            return self.state if self._turn is not None else {}
        return self._states.get(task, {})

    def make_moments(
        self, task: int, partitions: Sequence[Tensor], names: Sequence[str], step: int | None
    ) -> None:
        """Allocate the state of a task's partitions, after so many steps."""
        state = self._of_task(task)
        for partition in partitions:
            made = new_moments(partition, names, step)
            state[partition] = made | {"step": step} if self._counts_in_python else made

    def forget(self) -> None:
        """Drop all moments; tasks are to begin anew."""
        self.keep_moments(self._reset)
        self.end_task()

    def end_task(self) -> None:
        """Step nothing from now on: ZeRO's `step` then only casts and gathers what the partitions hold."""
        self._turn = self._loss_of = None

    def steps_group(self, group: Group) -> bool:
        return self._loss_of is not None and group["task"] in (None, self._loss_of)

    def set_lr(self, lr: float) -> None:
        for group in self.param_groups:
            group["lr"] = lr


def _clear_(state: Any) -> None:
    """Set moments and counts to zero where they are: ZeRO holds views of the tensors."""
    for values in state.values():
        for name, value in values.items():
            if isinstance(value, Tensor):
                value.zero_()
            elif isinstance(value, int):
                values[name] = 0


def by_task(base: type[torch.optim.Optimizer]) -> type[ByTask]:
    """A subclass of `base` that steps only the groups of the task that trains."""

    class Derived(base, ByTask):  # type: ignore[misc, valid-type]  # a class that is chosen by a setting
        def step(self, closure: Any = None) -> Any:
            groups = self.param_groups
            self.param_groups = [group for group in groups if self.steps_group(group)]
            self.lend_moments()
            try:
                return super().step(closure) if self.param_groups else None
            finally:
                self.param_groups = groups

    Derived.__name__ = Derived.__qualname__ = f"ByTask{base.__name__}"
    return Derived


def make(
    groups: list[Group], config: OptimizerConfig, deepspeed_base: type[torch.optim.Optimizer] | None
) -> ByTask:
    """The optimizer of a run over parameter groups, each with its `task`.

    Args:
        deepspeed_base: FusedAdam or DeepSpeedCPUAdam, in place of torch's Adam and AdamW.
    """
    base, options = torch_optimizer(config)
    if deepspeed_base is not None and config.name != "sgd":
        base = deepspeed_base
        del options["fused"]
        options["adam_w_mode" if "Fused" in base.__name__ else "adamw_mode"] = config.name == "adamw"
    optimizer = by_task(base)(groups, **options)
    optimizer.keep_moments(config.moments == "reset")
    optimizer._counts_in_python = base is deepspeed_base
    return optimizer
