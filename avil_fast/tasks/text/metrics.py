"""What a task on texts is judged by; the formulas are torchmetrics'."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from avil_fast.errors import AvilError
from avil_fast.tasks.task import Batch
from avil_fast.tasks.text.completions import IGNORED
from avil_fast.tasks.text.losses import logits_of
from avil_fast.tasks.text.packages import require

FRACTIONS = ("accuracy", "f1", "auroc", "token_accuracy")
"""Metrics shown as percentages."""

LOWER_IS_BETTER = ("mse", "mae")
"""Metrics of which less is better."""


class TextMetric:
    """A metric of a whole dev or test set, a `Scorer`.

    Args:
        name: see `config.text_tasks.METRICS`.
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
        """The metric. A correlation that is not defined, as all predictions are equal, counts as 0.

        Raises:
            AvilError: the metric means nothing for so few examples, or for labels that are all the same.
        """
        if self.name == "token_accuracy":
            right, learned = rows.sum(dim=0).tolist()
            return float(right / learned)
        if len(rows) < 2 and self.name in ("r2", "pearson", "spearman"):
            raise AvilError(f"metric {self.name} needs two examples or more; give the set more rows")
        if self.name == "auroc" and len(set(rows[:, -1].tolist())) < 2:
            raise AvilError("metric auroc needs examples of two classes or more; give the set more rows")
        found = float(_compute(self.name, rows[:, :-1], rows[:, -1], self._classes))
        return 0.0 if math.isnan(found) and self.name in ("pearson", "spearman") else found


def _compute(name: str, logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """A metric of logits [examples, classes] and labels [examples]; f1 is that of the second of two classes."""
    from torchmetrics import functional as of

    values, chosen, right = logits[:, 0], logits.argmax(dim=1), labels.long()
    chances = logits.softmax(dim=1)
    metrics: dict[str, Callable[[], Tensor]] = {
        "accuracy": lambda: of.classification.multiclass_accuracy(chosen, right, classes, average="micro"),
        "f1": lambda: (
            of.classification.binary_f1_score(chosen, right)
            if classes == 2
            else of.classification.multiclass_f1_score(chosen, right, classes)
        ),
        "matthews": lambda: of.classification.multiclass_matthews_corrcoef(chosen, right, classes),
        "auroc": lambda: (
            of.classification.binary_auroc(chances[:, 1], right) if classes == 2 else _auroc(chances, right)
        ),
        "mse": lambda: of.mean_squared_error(values, labels),
        "mae": lambda: of.mean_absolute_error(values, labels),
        "pearson": lambda: of.pearson_corrcoef(values, labels),
        "spearman": lambda: of.spearman_corrcoef(values, labels),
        "r2": lambda: of.r2_score(values, labels),
    }
    return metrics[name]()


def _auroc(chances: Tensor, right: Tensor) -> Tensor:
    """The mean over the classes that occur of each against the rest."""
    from torchmetrics.functional.classification import binary_auroc

    return torch.stack(
        [binary_auroc(chances[:, c], (right == c).long()) for c in sorted(set(right.tolist()))]
    ).mean()
