"""Losses and metrics of tasks, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from avil_fast.engine.ranks import Ranks
from avil_fast.engine.results import Evaluation
from avil_fast.errors import AvilError
from avil_fast.tasks.batch_sharding import Parts, batch_size_of
from avil_fast.tasks.task import Batch, Scorer, Task


class Evaluator:
    """Calls what the tasks bring.

    Args:
        call: function(model, batch) on the model, a task's loss or metric.
        ranks: over which evaluations are added up.
        device: of the model.
    """

    def __init__(
        self,
        call: Callable[[Callable[[nn.Module, Batch], Tensor], Batch], Tensor],
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        self._call = call
        self._ranks = ranks
        self._device = device

    @torch.no_grad()
    def evaluate(self, task: Task, batches: Iterable[Parts]) -> Evaluation:
        """Mean loss and metric over all examples of all ranks, in the mode that the model is in.

        Args:
            batches: this rank's part of each, in one piece, on the device.
        """
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        weight, rows = 0, []
        for parts in batches:
            part = parts[0]
            sums[0] += self.loss(task, part.batch).double() * part.weight
            sums[2] += part.examples
            if isinstance(task.metric, Scorer):
                rows.append(self._rows(task, task.metric, part.batch)[: part.examples].double().cpu())
            elif task.metric is not None:
                sums[1] += self._metric(task, part.batch, part.examples).double().sum()
            weight += part.total
        require_examples(weight, task, "evaluation")
        loss_sum, metric_sum, examples = self._ranks.sum_(sums).tolist()
        loss = loss_sum / weight
        if isinstance(task.metric, Scorer):
            score = _number(task, task.metric.score(torch.cat(self._ranks.gather(torch.cat(rows)))))
            return Evaluation(loss, score, task.metric.higher_is_better)
        return Evaluation(loss, metric_sum / examples if task.metric is not None else None)

    def loss(self, task: Task, batch: Batch) -> Tensor:
        """The task's loss, a scalar with a graph unless gradients are off."""
        try:
            loss = self._call(task.loss, batch)
        except IndexError as error:  # what torch raises for a class label that is out of range
            raise AvilError(
                f"task {task.name!r}: its loss failed: {error}; check that labels lie within the head's outputs, "
                f"and tokens and positions within the model's"
            ) from error
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise AvilError(f"task {task.name!r}: its loss returned {got}, but must return a scalar tensor")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise AvilError(
                f"task {task.name!r}: its loss does not depend on a trainable parameter; compute it from the "
                f"model's output, without detach() or item()"
            )
        return loss

    def _rows(self, task: Task, scorer: Scorer, batch: Batch) -> Tensor:
        rows = self._call(scorer.predict, batch)
        if not isinstance(rows, Tensor) or rows.dim() != 2:
            got = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
            raise AvilError(
                f"task {task.name!r}: predict() of its metric returned {got}, but must return shape [batch, k]"
            )
        return rows

    def _metric(self, task: Task, batch: Batch, size: int) -> Tensor:
        assert callable(task.metric)
        values = self._call(task.metric, batch)
        if size == 0 and isinstance(values, Tensor):
            return values.new_zeros(1)
        if not isinstance(values, Tensor) or tuple(values.shape) != (size,):
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise AvilError(
                f"task {task.name!r}: its metric returned {got}, but must return one value per "
                f"example, shape ({size},)"
            )
        return values


def _number(task: Task, score: Any) -> float:
    """A scorer's result, which may be of NumPy or a tensor, as files and other ranks take it."""
    try:
        return float(score)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's, for a tensor of several elements
        raise AvilError(
            f"task {task.name!r}: score() of its metric returned {type(score).__name__}, but must return a number"
        ) from error


def require_examples(examples: int, task: Task, split: str) -> None:
    """Refuse a set without a batch."""
    if examples == 0:
        raise AvilError(f"task {task.name!r}: its {split} set yields no batch; give it at least one example")


def require_rows(parts: Parts, task: Task) -> None:
    """Refuse a batch without an example, on all ranks alike: its loss is no number."""
    if batch_size_of(parts[0].batch) == 0:
        raise AvilError(f"task {task.name!r}: one of its batches is empty; leave it out")


def require_weight(parts: Parts, task: Task) -> None:
    """Refuse a batch to train on that has no mean, on all ranks alike."""
    require_rows(parts, task)
    if parts[0].total == 0:
        raise AvilError(
            f"task {task.name!r}: all examples of a batch have weight 0; leave such examples out, or set "
            f"batch_size higher"
        )
