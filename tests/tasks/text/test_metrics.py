"""Metrics against scikit-learn, and that they do not depend on how rows are divided."""

from typing import Any

import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn
from torch import Tensor, nn

from avil_fast.config.text_tasks import METRICS
from avil_fast.engine.results import Evaluation
from avil_fast.tasks.task import Scorer
from avil_fast.tasks.text.metrics import LOWER_IS_BETTER, TextMetric

CLASSES = {
    "accuracy": sklearn.accuracy_score,
    "f1": lambda y, p: sklearn.f1_score(y, p, average="binary" if max(y) == 1 else "macro"),
    "matthews": sklearn.matthews_corrcoef,
}
VALUES = {
    "mse": sklearn.mean_squared_error,
    "mae": sklearn.mean_absolute_error,
    "r2": sklearn.r2_score,
    "pearson": lambda y, p: stats.pearsonr(y, p).statistic,
    "spearman": lambda y, p: stats.spearmanr(y, p).statistic,
}


def rows(classes: int) -> Tensor:
    torch.manual_seed(0)
    labels = torch.randint(classes, (50, 1)) if classes > 1 else torch.randn(50, 1)
    return torch.cat([torch.randn(50, classes), labels], dim=1).double()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", CLASSES)
def test_metrics_of_classes(name: str, classes: int) -> None:
    given = rows(classes)
    expected = CLASSES[name](given[:, -1].int().tolist(), given[:, :-1].argmax(1).tolist())
    assert TextMetric(name, "news", classes).score(given) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_auroc(classes: int) -> None:
    given = rows(classes)
    chances, labels = given[:, :-1].softmax(1).numpy(), given[:, -1].int().numpy()
    expected = sklearn.roc_auc_score(labels, chances[:, 1] if classes == 2 else chances, multi_class="ovr")
    assert TextMetric("auroc", "news", classes).score(given) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", VALUES)
def test_metrics_of_values(name: str) -> None:
    given = rows(1)
    expected = VALUES[name](given[:, 1].numpy(), given[:, 0].numpy())
    assert TextMetric(name, "news").score(given) == pytest.approx(expected, abs=1e-5)


@pytest.mark.filterwarnings("ignore:The variance of predictions or target is close to zero")
@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_correlation_of_equal_predictions_is_0(name: str) -> None:
    given = rows(1)
    given[:, 0] = 1
    assert TextMetric(name, "news").score(given) == 0


def test_every_metric_is_a_scorer_that_does_not_depend_on_the_order() -> None:
    for kind, names in METRICS.items():
        for name in names:
            classes = 3 if kind == "classification" else 1
            metric = TextMetric(name, "news", classes)
            assert isinstance(metric, Scorer)
            assert metric.higher_is_better == (name not in LOWER_IS_BETTER)
            given = rows(classes).abs()
            assert metric.score(given) == pytest.approx(metric.score(given.flip(0)), abs=1e-6)


class Said(nn.Module):
    """A model that says what it was told."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, *task: str, **inputs: Any) -> Any:
        return self


def test_token_accuracy_counts_the_tokens_that_are_learned() -> None:
    labels = torch.tensor([[-100, -100, 2, 1], [-100, 0, 1, -100]])
    said = torch.tensor([[0, 2, 0, 9], [0, 1, 2, 9]])  # of the next token
    found = TextMetric("token_accuracy", None).predict(Said(nn.functional.one_hot(said, 10)), {"labels": labels})
    assert found.tolist() == [[1, 2], [2, 2]]
    assert TextMetric("token_accuracy", None).score(found) == 0.75


def test_a_lower_error_is_better() -> None:
    low, high = (Evaluation(1.0, value, higher_is_better=False) for value in (0.1, 0.2))
    assert low.better_than(high)
    assert not high.better_than(low)
    assert Evaluation(1.0, 0.2).better_than(Evaluation(1.0, 0.1))
