"""Methods that train on the target's dev set from the first step on: the honest controls.

What another method learns on the dev set could have been learned from it as training data. Nothing is held out
then, so the last round and the last epoch of the fine-tune are the result.
"""

from __future__ import annotations

from collections.abc import Sequence

from avil_fast.config import TrainConfig
from avil_fast.methods.base import Method
from avil_fast.methods.multitask import Multitask
from avil_fast.methods.single import Single
from avil_fast.tasks.task import Task
from avil_fast.tasks.train_and_dev import with_dev


class _OnDev(Method):
    @classmethod
    def held_out_rounds(cls, config: TrainConfig, target: Task) -> int:
        return 0

    @classmethod
    def trained(cls, tasks: Sequence[Task], target: int) -> list[Task]:
        return [*tasks[:target], with_dev(tasks[target]), *tasks[target + 1 :]]


class SingleAll(_OnDev, Single):
    """The target alone on train and dev together, at the matched total budget."""


class MultitaskAll(_OnDev, Multitask):
    """Joint training, the target on train and dev together."""
