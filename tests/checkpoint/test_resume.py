"""Ended anywhere, a run goes on from its checkpoint and comes to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import avil_fast as avil
from avil_fast.checkpoint.folder import Folder
from tests.checkpoint import runs
from tests.checkpoint.runs import EVERY_POINT, SETTINGS, fit, found, model, tasks

KINDS: dict[str, dict[str, Any]] = {
    "tensors": {},
    "reset": {"data": "list", "optimizer.moments": "reset"},
    "momentum": {"data": "augmented", "optimizer.name": "sgd", "optimizer.momentum": 0.9, "deltas.dtype": "int8"},
    "draws": {
        "data": "augmented",
        "alpha.dev_examples": 5,
        "alpha.optimizer": "adam",
        "steps_per_task": "proportional",
    },
    "stream": {"data": "stream", "alpha.target_head": "trained", "keep": "last", "finetune.epochs": 0},
    "shuffled": {"data": "shuffled", "deltas.dtype": "bf16", "weights.apply": "sampling"},
    "accumulate": {"gradient_accumulation_steps": 2, "optimizer.clip_norm": 0.1, "alpha.momentum": 0.5},
    "single": {"method": "single", "data": "augmented"},
    "multitask": {"method": "multitask", "data": "augmented"},
    "forkmerge": {"method": "forkmerge", "optimizer.moments": "reset"},
    "tartan": {"method": "tartan", "alpha.dev_examples": 5},
    "on dev": {"finetune.data": "train+dev", "alpha.rounds": 2},
    "poisoned": {"data": "poisoned", "alpha.lr": 20.0, "alpha.bounds": None, "weights.rule": "off"},
    "layers": {"alpha.granularity": "layer", "deltas.dtype": "int8", "alpha.rounds": 2, "alpha.settled": "merge"},
    "taps": {"method": "taps", "options": {"penalty": 0.3}, "alpha.momentum": 0.5, "data": "augmented"},
    "network": {"method": "aux_weighting", "data": "shuffled"},
}


FEW = 6
"""Points of each kind that are tried; together the kinds try all phases."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_from_any_point_as_if_nothing_had_happened(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = KINDS[kind]
    expected = found(fit(None, **settings))
    rejected = sum(expected["summary"]["rejected_steps"].values())
    in_alpha = [row["rejected_alpha_steps"] for row in expected["rows"]]
    assert (rejected > 0, 1 in in_alpha) == (kind == "poisoned",) * 2
    assert found(fit(tmp_path / "run", **settings, **EVERY_POINT)) == expected
    points = Folder(tmp_path / "run" / "checkpoints").all()
    assert len(points) > 20
    every = 1 if request.config.getoption("--every-point") else len(points) // FEW
    first = [*KINDS].index(kind) % every
    for path in points[first::every]:
        assert found(fit(None, resume=path, **settings)) == expected, f"from {path.name}"


def test_frozen_parameters_that_forward_moves_go_on_from_where_they_were(tmp_path: Path) -> None:
    """A momentum encoder that is no buffer; as it is at the start it is not saved."""

    def train(**more: Any) -> dict[str, Any]:
        network = model()
        layer = network.trunk[0]
        layer.requires_grad_(False)

        def move(module: nn.Module, inputs: object) -> None:
            if module.training:
                with torch.no_grad():
                    layer.weight.lerp_(network.trunk[4].weight.mean(), 1e-4)

        network.register_forward_pre_hook(move)
        return found(avil.fit(network, tasks("tensors"), "t", **SETTINGS | more))

    expected = train(output_dir=tmp_path / "run", **EVERY_POINT)
    for number, path in enumerate(Folder(tmp_path / "run" / "checkpoints").all()[1::7]):
        again = {"output_dir": tmp_path / "again", "checkpoints.minutes": 0} if number == 1 else {}
        assert train(resume=path, **again) == expected, f"from {path.name}"
    assert train(resume=Folder(tmp_path / "again" / "checkpoints").all()[0]) == expected


class Widening(runs.Net):
    """Replaces buffers, in bf16 and a counter, by those of another dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor
        self.count: Tensor
        self.register_buffer("mean", torch.zeros(5))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor, task: str) -> Tensor:
        if self.training:
            self.mean, self.count = 0.9 * self.mean + 0.1 * x.mean(0), 0.9 * self.count + 1.0
        return super().forward((x - self.mean / self.count.clamp(min=1)).bfloat16(), task).float()


def test_buffers_that_forward_makes_of_another_dtype_go_on_with_their_bits(tmp_path: Path) -> None:
    def train(**more: Any) -> dict[str, Any]:
        torch.manual_seed(1)
        return found(avil.fit(Widening().bfloat16(), tasks("tensors"), "t", **SETTINGS | more))

    expected = train(output_dir=tmp_path / "run", **EVERY_POINT)
    for path in Folder(tmp_path / "run" / "checkpoints").all()[1::6]:
        assert train(resume=path) == expected, f"from {path.name}"
