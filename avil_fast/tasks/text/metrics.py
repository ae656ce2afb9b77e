"""What a task on texts is judged by; the formulas are torchmetrics'."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from avil_fast.tasks.task import Batch
from avil_fast.tasks.text.encoded import IGNORED
from avil_fast.tasks.text.forward import logits_of
from avil_fast.tasks.text.packages import require

FRACTIONS = ("accuracy", "f1", "auroc", "token_accuracy")
"""That are told as percent."""

LOWER_IS_BETTER = ("mse", "mae")


class TextMetric:
    """A metric of a whole dev or test set, a `Scorer`.

    Args:
        name: see `task_config.METRICS`.
        task: whose head it reads; None for a causal language model.
        classes: of the task.
    """

    def __init__(self, name: str, task: str | None, classes: int = 0) -> None:
        if name != "token_accuracy":
            require("torchmetrics")
        self.name = name
        self.percent = name in FRACTIONS
        self.higher_is_better = name not in LOWER_IS_BETTER
        self._task, self._classes = task, classes

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """[batch, classes + 1]: logits and the label; of language modelling [batch, 2]: tokens right, and all."""
        logits = logits_of(model, self._task, batch)
        if self.name != "token_accuracy":
            return torch.cat([logits.double(), batch["labels"].unsqueeze(1).double()], dim=1)
        labels = batch["labels"][:, 1:]
        learned = labels != IGNORED
        right = (logits[:, :-1].argmax(dim=-1) == labels) & learned
        return torch.stack([right.sum(dim=1), learned.sum(dim=1)], dim=1).double()

    def score(self, rows: Tensor) -> float:
        """The metric. A correlation that is not defined, as all predictions are equal, counts as 0."""
        if self.name == "token_accuracy":
            right, learned = rows.sum(dim=0).tolist()
            return float(right / learned)
        logits, labels = rows[:, :-1], rows[:, -1]
        metric = self._metric()
        if self.name in ("accuracy", "f1", "matthews"):
            value = metric(logits.argmax(dim=1), labels.long())
        elif self.name == "auroc":
            value = metric(
                logits.softmax(dim=1)[:, 1] if self._classes == 2 else logits.softmax(dim=1), labels.long()
            )
        else:
            value = metric(logits.squeeze(1), labels)
        found = float(value)
        return 0.0 if math.isnan(found) and self.name in ("pearson", "spearman") else found

    def _metric(self) -> Any:
        from torchmetrics import classification, regression

        n = self._classes
        match self.name:
            case "accuracy":
                return classification.MulticlassAccuracy(n, average="micro")
            case "f1":  # of the second of two classes; else the mean over classes
                return classification.BinaryF1Score() if n == 2 else classification.MulticlassF1Score(n)
            case "matthews":
                return classification.MulticlassMatthewsCorrCoef(n)
            case "auroc":
                return classification.BinaryAUROC() if n == 2 else classification.MulticlassAUROC(n)
            case "mse":
                return regression.MeanSquaredError()
            case "mae":
                return regression.MeanAbsoluteError()
            case "pearson":
                return regression.PearsonCorrCoef()
            case "spearman":
                return regression.SpearmanCorrCoef()
            case _:
                return regression.R2Score()
