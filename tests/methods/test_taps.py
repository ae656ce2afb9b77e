"""TAPS: what its gates let through, and how they are learned."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.func import functional_call

from avil_fast.config import from_dotted
from avil_fast.engine.factory import make_engine
from avil_fast.engine.ranks import ALONE
from avil_fast.errors import Diverged
from avil_fast.methods.data import TaskData
from avil_fast.methods.scalar_rules import cosines
from avil_fast.methods.taps import Taps
from avil_fast.methods.turn import Hooks
from tests.methods.models import CASES, LAYERS, in_float64, row_of
from tests.methods.reference_avil import Wrapper


def made(name: str = "convolutional", **options: Any) -> Taps:
    """On an engine in fp64, before its first round."""
    given = {"target": "t", "output_dir": None, "method": "taps", "optimizer.lr": 0.02, "alpha.bounds": None}
    config = from_dotted(given | options)
    case = in_float64(CASES[name]())
    engine = make_engine(copy.deepcopy(case.model), case.tasks(), 1, config, ALONE, Taps.granularity(config))
    return Taps(engine, TaskData(case.tasks(), config), config, Hooks())


def theta(method: Taps) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in method.engine.weights()}


def shared(name: str) -> bool:
    return not name.startswith("heads.") and "running" not in name and "num_batches" not in name


def test_with_all_gates_open_every_delta_is_merged_in_full() -> None:
    method = made(**{"alpha.steps": 0})
    record = method.round(1)
    assert record.alpha == record.weight == [1.0, 1.0, 1.0]
    assert record.alpha_layers == [[1.0] * 3] * 3
    expected = {name: tensor.clone() for name, tensor in method.engine.base()}
    for i in range(3):
        for name, delta in method.engine.deltas(i):
            expected[name] = expected[name] + delta
    for name, tensor in method.engine.weights():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-12)


def test_with_all_gates_closed_theta_stays_and_heads_and_buffers_do_not() -> None:
    method = made(**{"alpha.steps": 0, "options": {"threshold": 1.1}, "alpha.target_head": "trained"})
    before = theta(method)
    record = method.round(1)
    assert record.alpha_layers == [[0.0] * 3] * 3
    for name, tensor in theta(method).items():
        assert torch.equal(tensor, before[name]) == (shared(name) or name == "frozen"), name


def test_a_score_at_the_threshold_is_an_open_gate() -> None:
    method = made(options={"threshold": 0.3})
    assert method.gates([[0.3, 0.29, 1.0]]) == [[1.0, 0.0, 1.0]]


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_scores_is_autograd_s_through_straight_through_gates(name: str) -> None:
    method = made(name, **{"alpha.steps": 1, "alpha.lr": 0.7, "options": {"threshold": 0.2, "penalty": 0.4}})
    torch.manual_seed(3)
    scores = torch.randn(len(LAYERS[name]), 3, dtype=torch.float64)
    assert 0 < int((scores >= 0.2).sum()) < scores.numel()
    method.scores = scores.tolist()
    method.round(1)

    scores.requires_grad_()
    gates = (scores >= 0.2).double() + scores - scores.detach()
    point = {key: tensor.clone() for key, tensor in method.engine.base()}
    for i in range(3):
        for key, delta in method.engine.deltas(i):
            point[key] = point[key] + gates[row_of(key, LAYERS[name]), i] * delta
    target = method.engine.tasks[1]
    network = Wrapper(copy.deepcopy(method.engine.model).eval())
    losses = [
        len(batch[0]) * functional_call(network, {f"model.{k}": v for k, v in point.items()}, (target.loss, batch))
        for batch in target.dev
    ]
    mean = sum(losses) / sum(len(batch[0]) for batch in target.dev)
    (gradient,) = torch.autograd.grad(mean + 0.4 * scores.abs().sum(), scores)
    expected = (scores - 0.7 * gradient).detach()
    torch.testing.assert_close(torch.tensor(method.scores, dtype=torch.float64), expected, rtol=1e-9, atol=1e-12)


def test_alpha_is_the_share_of_the_elements_that_is_merged() -> None:
    method = made(**{"alpha.steps": 0})
    method.scores = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    record = method.round(1)
    assert record.alpha == pytest.approx([188 / 196, 156 / 196, 40 / 196])
    before, after = dict(method.engine.base()), theta(method)
    deltas = [{key: delta.clone() for key, delta in method.engine.deltas(i)} for i in range(3)]
    for key in ("trunk.0.weight", "trunk.1.bias", "trunk.3.weight"):
        opened = [
            delta[key] for i, delta in enumerate(deltas) if method.scores[row_of(key, LAYERS["convolutional"])][i]
        ]
        torch.testing.assert_close(after[key], before[key] + sum(opened), rtol=0, atol=1e-12)


def test_a_penalty_closes_gates_and_the_scores_are_kept_from_round_to_round() -> None:
    method = made(**{"alpha.steps": 1, "alpha.lr": 0.1, "options": {"penalty": 3.0}})
    opened = []
    for round_ in (1, 2, 3):
        opened.append(sum(method.round(round_).alpha))
        method.so_far = type(method.so_far)()
    assert opened[0] == 3.0
    assert opened[-1] < 1.0


def test_taps_records_its_gates_as_weights_and_the_cosines_of_its_deltas() -> None:
    method = made(**{"alpha.steps": 2})
    record = method.round(1)
    assert record.cosine == cosines(method.engine.gram())
    assert record.weight == record.alpha == record.alpha_path[-1]
    assert len(record.alpha_path) == 3
    assert record.alpha_path[0] == [1.0] * 3
    assert record.rejected_alpha_steps == 0


def test_a_gradient_that_is_not_finite_ends_the_way_of_the_scores_and_is_counted() -> None:
    method = made(**{"alpha.steps": 3})
    gradient, asked = method.engine.target_gradient, iter([1.0, float("nan")])

    def sometimes(batches: Any) -> Any:
        table, loss = gradient(batches)
        return table, loss * next(asked)

    method.engine.target_gradient = sometimes
    record = method.round(1)
    assert record.rejected_alpha_steps == 1
    assert len(record.alpha_path) == 1  # the scores after the first step are those that were rejected


def test_errors_and_seeds_are_of_the_round() -> None:
    method = made()
    asked: list[int] = []
    take_turn = method.take_turn
    method.take_turn = lambda turn, round_, **more: asked.append(round_) or take_turn(turn, round_, **more)
    gradient = method.engine.target_gradient
    method.engine.target_gradient = lambda batches: (gradient(batches)[0], float("nan"))
    with pytest.raises(Diverged, match="at step 1 of the α phase of round 7"):
        method.round(7)
    assert asked == [7] * 3


def test_the_penalty_pulls_no_score_that_is_at_zero() -> None:
    method = made(options={"penalty": 2.0})
    method.collect(1)
    scores = [[0.0, 0.5, -0.5]] * 3
    pulled = method._gradient(scores, 0, 1)
    without = method.so_far.gradient[0]
    pulls = [[a - b for a, b in zip(*own, strict=True)] for own in zip(pulled, without, strict=True)]
    assert pulls == [pytest.approx([0.0, 2.0, -2.0])] * 3
