"""αVIL against a reference that differentiates through θ + Σ α_i δ_i, written independently."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import avil_fast as avil
from tests.methods.models import CASES, LAYERS, Case, in_float64, row_of
from tests.methods.reference_avil import Trace, run_reference

ROUNDS, STEPS = 3, 3

PAPER = {
    "alpha.init": "one",
    "alpha.bounds": None,
    "alpha.target_head": "trained",
    "weights.rule": "additive",
    "weights.apply": "loss",
    "weights.normalize": False,
    "weights.bounds": None,
    "weights.target_min": None,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "momentum": PAPER | {"optimizer.momentum": 0.9, "optimizer.moments": "reset"},
    "per_task": PAPER | {"optimizer.momentum": 0.9, "optimizer.moments": "per_task"},
    "bounded": PAPER | {"alpha.bounds": (0.9, 1.02), "weights.bounds": (0.97, 1.01), "weights.target_min": 0.99},
    "default": {
        "alpha.init": "1/n",
        "alpha.target_head": "scaled",
        "weights.rule": "multiplicative",
        "weights.apply": "lr",
        "weights.lr": 0.5,
        "weights.bounds": (0.05, 4.0),
        "weights.target_min": 0.5,
        "weights.normalize": True,
        "alpha.bounds": (0.0, 2.0),
        "optimizer.momentum": 0.9,
        "optimizer.moments": "per_task",
    },
}
VARIANTS["layers"] = VARIANTS["default"] | {"alpha.granularity": "layer"}


def reference(name: str, options: dict[str, Any], dtype: torch.dtype) -> Trace:
    case = CASES[name]()
    n = len(case.losses)
    return run_reference(
        case.model,
        case.losses,
        [case.train] * ROUNDS,
        case.dev,
        "t",
        case.heads,
        rounds=ROUNDS,
        lr=0.02,
        momentum=options.get("optimizer.momentum", 0.0),
        moments=options.get("optimizer.moments", "reset"),
        alpha_lr=0.05,
        alpha_steps=STEPS,
        alpha_init=1.0 if options["alpha.init"] == "one" else 1 / n,
        alpha_bounds=options["alpha.bounds"],
        weight_rule=options["weights.rule"],
        weight_lr=options.get("weights.lr", 1.0),
        weight_apply=options["weights.apply"],
        weight_bounds=options["weights.bounds"],
        target_min=options["weights.target_min"],
        normalize=options["weights.normalize"],
        target_head=options["alpha.target_head"],
        layers=LAYERS[name] if options.get("alpha.granularity") == "layer" else None,
        row_of=row_of,
        dtype=dtype,
    )


def ours(case: Case, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[avil.Result, list[dict]]:
    """A run over the batches in their given order, and the parameters after every round."""
    thetas: list[dict[str, torch.Tensor]] = []

    from avil_fast.engine.local import LocalEngine
    from avil_fast.tasks.batches import Batches

    merge = LocalEngine.merge

    def recording(engine: LocalEngine, alpha: list[float]) -> None:
        merge(engine, alpha)
        thetas.append({name: p.detach().clone() for name, p in engine.model.named_parameters()})

    monkeypatch.setattr(LocalEngine, "merge", recording)
    monkeypatch.setattr(
        Batches, "_stream", lambda self, start, stop: [i % self.length for i in range(start, stop)]
    )
    result = avil.fit(
        copy.deepcopy(case.model),
        case.tasks(),
        "t",
        rounds=ROUNDS,
        steps_per_task=len(case.train["t"]),
        keep="last",
        **{
            "optimizer.name": "sgd",
            "optimizer.lr": 0.02,
            "alpha.lr": 0.05,
            "alpha.steps": STEPS,
            "finetune.epochs": 0,
            "optimizer.moments": "reset",
        }
        | options,
    )
    return result, thetas


def elements(case: Case, layers: list[str]) -> torch.Tensor:
    """Of each layer's shared parameters, as shares of all."""
    shared = [(key, p) for key, p in case.model.named_parameters() if p.requires_grad and not headed(case, key)]
    counts = [sum(p.numel() for key, p in shared if row_of(key, layers) == row) for row in range(len(layers))]
    return torch.tensor(counts, dtype=torch.float64) / sum(counts)


def headed(case: Case, key: str) -> bool:
    return any(head and key.startswith(head) for head in case.heads.values())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_alpha_and_theta_equal_the_reference(
    name: str, variant: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, options = CASES[name](), VARIANTS[variant]
    truth = reference(name, options, torch.float64)
    if dtype == torch.float64:
        case = in_float64(case)
    result, thetas = ours(case, options, monkeypatch)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    for r in range(ROUNDS):
        path = torch.tensor(result.history[r]["alpha_path"], dtype=torch.float64)
        expected = torch.stack(truth.alphas[r]).double()
        if variant == "layers":
            layers = [list(by_task.values()) for by_task in result.history[r]["alpha_layers"].values()]
            last = torch.tensor(layers, dtype=torch.float64)
            torch.testing.assert_close(last, expected[-1], rtol=tolerance, atol=tolerance)
            expected = (elements(case, LAYERS[name])[:, None] * expected).sum(1)
        torch.testing.assert_close(path, expected, rtol=tolerance, atol=tolerance)
        weights = torch.tensor(result.weights[r + 1])
        torch.testing.assert_close(weights, truth.weights[r].double(), rtol=tolerance, atol=tolerance)
        found = torch.cat([thetas[r][key].double().flatten() for key in truth.thetas[r]])
        wanted = torch.cat([value.double().flatten() for value in truth.thetas[r].values()])
        assert (found - wanted).norm() <= tolerance * wanted.norm()
