"""What methods record of a round: of every task what it did, and nothing of those that did nothing."""

from __future__ import annotations

import pytest
import torch

from avil_fast.methods import gradient_aggregation
from avil_fast.methods.scalar_rules import cosines
from tests.methods.test_parts import TARGET, made


@pytest.mark.parametrize("method", ["single", "single_own"])
def test_of_a_target_alone_only_its_own_column_says_something(method: str) -> None:
    record = made(method=method).round(1)
    assert record.alpha == record.weight == [0.0, 1.0, 0.0]
    assert [norm > 0 for norm in record.delta_norm] == [False, True, False]
    assert [loss is None for loss in record.train_loss] == [True, False, True]


def test_tasks_that_train_together_have_an_alpha_of_one_each() -> None:
    record = made(method="multitask").round(1)
    assert record.alpha == [1.0] * 3
    assert [norm > 0 for norm in record.delta_norm] == [False, True, False]


def test_taps_records_its_gates_as_weights_and_the_cosines_of_its_deltas() -> None:
    method = made(method="taps")
    record = method.round(1)
    assert record.cosine == cosines(method.engine.gram())
    assert len(record.weight) == 3
    assert record.weight[TARGET] == 1.0


def test_the_weighting_network_learns_at_its_own_rate() -> None:
    weights = []
    for lr in (0.01, 0.1):
        method = made(method="aux_weighting", **{"options.lr": lr})
        weights.append(method.round(1).weight)
    moved = [max(abs(weight - 1) for weight in own) for own in weights]
    assert moved[1] > 5 * moved[0] > 0


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_an_aggregator_sees_a_gram_matrix_whose_largest_square_is_one(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        gradient_aggregation.PCGrad, "aggregator", lambda *_: lambda gram: seen.append(gram) or gram.diagonal()
    )
    method = made(method="pcgrad")
    monkeypatch.setattr(gradient_aggregation.importlib, "import_module", lambda name: None)
    gram = [[4.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]]
    method.engine.gram = lambda: [[scale * value for value in row] for row in gram]
    method.coefficients(1)
    torch.testing.assert_close(seen[0], torch.tensor(gram, dtype=torch.float64) / 4)


@pytest.mark.parametrize(("method", "kept"), [("avil", True), ("single", False), ("multitask", False)])
def test_a_method_without_deltas_has_no_bank(method: str, kept: bool) -> None:
    engine = made(method=method).engine
    assert (engine.memory().bank > 0) == kept
    assert not engine.has_deltas
