"""The contract between a method and an engine.

An engine owns the model, the optimizer and the partitions, and knows no method. A method is scalars and
order: it says which task trains when and what α and w become, and never touches a tensor of the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from avil_fast.engine.results import Alpha, Evaluation, Memory, Table, TaskRun
from avil_fast.engine.state import EngineState, Loaded, Placement, Snapshot
from avil_fast.tasks.batch_sharding import Share
from avil_fast.tasks.task import Batch, Task


class Engine(ABC):
    """Trains tasks from shared parameters θ and keeps the round's deltas.

    The life of a round: `begin_round`; for each task `begin_task`, `train_step`..., `end_task`; then `apply` and
    `target_gradient` as often as the method likes; `merge`.
    """

    name: str
    """For people: "local", "data parallel", "ZeRO 2"."""
    tasks: Sequence[Task]
    target: int
    share: Share
    """What this process takes of every batch."""
    groups: Mapping[str, int]
    """Elements of the groups of shared parameters, by name: each may have coefficients of its own. One, or one for
    each layer; a target's head that α scales goes with the last one, whose features it reads."""

    @abstractmethod
    def begin_round(self) -> None:
        """Take the present θ and buffers as this round's base; forget the last round's deltas."""

    @abstractmethod
    def begin_task(self, task: int, seed: int) -> None:
        """Make ready to train a task from θ; `seed` fixes dropout and the like until `end_task`."""

    @abstractmethod
    def train_step(
        self, batch: Batch, *, task: int | None = None, loss_weight: float = 1.0, lr_scale: float = 1.0
    ) -> Tensor:
        """One optimizer step on loss_weight · L_i at lr_scale · lr.

        Where a loss or the gradient is not finite on any rank, the step is rejected on all of them: parameters,
        moments and buffers stay as they were. No rank waits for its device to find out.

        Args:
            task: i, whose loss it is and whose head is stepped; by default the task whose turn it is. Shared
                parameters are stepped with the moments of the turn, a head with its own.

        Returns:
            L_i before the step, of this rank's share of the batch: a scalar on the device, read at a wait.
        """

    @abstractmethod
    def end_task(self, *, restore: bool = True) -> TaskRun:
        """Put δ_i in the bank and θ back, bit for bit; the task's head keeps its trained value.

        With `restore=False` θ stays where the task left it and no delta is kept: training without a merge.
        """

    @abstractmethod
    def rejected_in_a_row(self, *, wait: bool = False) -> Sequence[int]:
        """How many of each task's last steps were rejected one after the other; the same on all ranks.

        Args:
            wait: for the device. Otherwise a GPU's last steps may be missing, and count later.
        """

    @abstractmethod
    def target_gradient(self, batches: Iterable[Batch]) -> tuple[Table, float]:
        """(∂L/∂α [groups, n], L) of the target's mean loss over all examples, at the applied θ, in eval mode.

        The sum over groups (`over_groups`) is that of coefficients that all groups share.
        """

    @abstractmethod
    def apply(self, alpha: Alpha) -> None:
        """Set the model to θ + Σ α_i δ_i, in every group with its own α; θ itself stays."""

    @abstractmethod
    def merge(self, alpha: Alpha) -> None:
        """θ ← θ + Σ α_i δ_i. The deltas and the θ before them stay at hand until the next round begins."""

    @abstractmethod
    def evaluate(self, task: int, batches: Iterable[Batch]) -> Evaluation:
        """Mean loss and metric over all examples, in eval mode."""

    @abstractmethod
    def gram(self) -> list[list[float]]:
        """⟨δ_i, δ_j⟩ of this round's deltas."""

    @abstractmethod
    def memory(self) -> Memory:
        """What the base and the bank take on this rank."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """A copy of parameters and buffers, for `restore`."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Set parameters and buffers to a snapshot's."""

    @abstractmethod
    def keep_start(self) -> None:
        """Keep a copy of the present model in the memory of the CPU, for `restart`; a part of the state."""

    @abstractmethod
    def restart(self) -> bool:
        """Put the model back to what `keep_start` has kept, without moments, and forget that; False if there is
        nothing."""

    @abstractmethod
    def placement(self) -> Placement:
        """Which elements of which parameters this rank's partitions hold."""

    @abstractmethod
    def buffers(self) -> list[list[Any]]:
        """Name and shape of each of the model's buffers, in JSON's types."""

    @abstractmethod
    def frozen(self) -> int | None:
        """A checksum of samples of the parameters that are not trained, as the engine was made with them; None
        where a rank has not all of them."""

    @abstractmethod
    def state(self) -> EngineState:
        """All that is needed to go on from here, at any point outside the methods above.

        Its tensors are the engine's own and change with the next step.
        """

    @abstractmethod
    def prepare(self, facts: dict[str, Any]) -> EngineState:
        """Take the position that a saved state's `facts` tell of.

        Returns:
            The state to fill in place; its values mean nothing yet.
        """

    @abstractmethod
    def adopt(self, loaded: Loaded) -> None:
        """Go on from the state that `prepare` gave, now that it is filled. All ranks take part."""

    @abstractmethod
    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The model's parameters and saved buffers by name, whole, one by one; tied ones once.

        All ranks take part. A tensor is good until the next one is asked for.
        """

    @property
    @abstractmethod
    def has_deltas(self) -> bool:
        """Whether the last round kept the deltas of all its tasks; the same on all ranks."""

    @abstractmethod
    def base(self) -> Iterator[tuple[str, Tensor]]:
        """As `weights`, but what has deltas is as it was when the last round began, in the dtype of the masters.

        So base + Σ α_i δ_i is what the round's `merge` makes.
        """

    @abstractmethod
    def deltas(self, task: int) -> Iterator[tuple[str, Tensor]]:
        """δ_i of the last round by parameter, decoded, in the order of `base`; the target's has a scaled head.

        Whole, one by one; all ranks take part. A tensor is good until the next one is asked for.
        """

    @abstractmethod
    def fetch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, on the model's device, with the time that loading takes counted as `data`."""

    @abstractmethod
    def spend(self, part: str) -> AbstractContextManager[None]:
        """Count the seconds within as this part's."""

    @abstractmethod
    def take_seconds(self) -> dict[str, float]:
        """Seconds since the last call, by part.

        Parts: data, task_training, alpha_phase, delta_ops, evaluation, checkpoints, with copies of the best model.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the model as an ordinary one, in the mode it came in. All ranks take part."""

    def abandon(self) -> None:
        """`close` after a failure, when other ranks may be elsewhere: it waits for none of them."""
        self.close()
