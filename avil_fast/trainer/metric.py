"""Trainer's `compute_metrics` as the metric that chooses the best round."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from avil_fast.errors import AvilError
from avil_fast.tasks.task import Batch


class ComputedMetric:
    """A `Scorer`: one number of `compute_metrics` on a whole set.

    A row holds an example's predictions and then its labels, both flat.

    Args:
        trainer: an AvilTrainer with `compute_metrics`.
        name: of the number, without "eval_".
    """

    def __init__(self, trainer: Any, name: str) -> None:
        self.name = name
        self.higher_is_better = bool(trainer.args.greater_is_better)
        self._trainer = trainer
        self._like: list[Tensor] = []
        """Of predictions and labels, one example without its values: shape and dtype."""

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """Predictions and labels of each example, [batch, k] fp64.

        Raises:
            AvilError: predictions or labels are no tensors of one shape for all examples.
        """
        trainer = self._trainer
        _, logits, labels = trainer.prediction_step(model, batch, False, ignore_keys=trainer._ignore_keys)
        if trainer.preprocess_logits_for_metrics is not None:
            logits = trainer.preprocess_logits_for_metrics(logits, labels)
        found = [part for part in (logits, labels) if isinstance(part, Tensor) and part.dim()]
        like = [torch.empty_like(part[0], device="meta") for part in found]
        if len(found) < 2 or [part.shape for part in like] != [part.shape for part in self._like or like]:
            raise AvilError(
                f"args.metric_for_best_model is {self.name!r}, which needs predictions and labels that are a "
                f"tensor each, of one shape for all examples; return such from preprocess_logits_for_metrics, pad "
                f"to max_length, or leave it out, so that the dev loss decides"
            )
        self._like = like
        return torch.cat([part.double().reshape(len(part), -1) for part in found], 1)

    def score(self, rows: Tensor) -> float:
        """The metric of [examples, k] fp64, as `predict` made them.

        Raises:
            AvilError: `compute_metrics` does not return it.
        """
        parts = torch.split(rows, [like.numel() for like in self._like], 1)
        predictions, labels = (
            part.reshape(-1, *like.shape).to(torch.float32 if like.is_floating_point() else like.dtype).numpy()
            for part, like in zip(parts, self._like, strict=True)
        )
        found = self._trainer._metrics_of(predictions, labels)
        if self.name not in found:
            raise AvilError(
                f"args.metric_for_best_model is {self.name!r}, but compute_metrics returns {', '.join(found)}; "
                f"name one of them"
            )
        return float(found[self.name])
