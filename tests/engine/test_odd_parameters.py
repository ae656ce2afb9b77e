"""Parameters that DeepSpeed does not expect, strided, scalar or empty, train under ZeRO or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from avil_fast.config import DeltasConfig
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.settings import EngineSettings
from tests.engine.ranks.cases import Case
from tests.engine.ranks.launch import on_ranks
from tests.engine.ranks.odd import Odd, OddCase, a_round, odd_tasks
from tests.engine.test_ranks import difference

CASES = {"2": OddCase(Case(2), with_scale=True), "3": OddCase(Case(3), with_scale=False, unused=1)}
REFUSED = {"scale": OddCase(Case(3), with_scale=True), "unused": OddCase(Case(3), with_scale=False)}
SAYS = {"scale": "is a scalar, of which ZeRO stage 3 makes no shards", "unused": "has no elements, and ZeRO"}


@pytest.mark.xdist_group("2 ranks")
def test_strided_parameters_scalars_and_empty_ones_train_under_zero(tmp_path: Path) -> None:
    found = on_ranks(2, CASES | REFUSED, tmp_path / "out")
    for name, says in SAYS.items():
        for refused in found.pop(name):
            assert refused.startswith(f"the parameter {name!r} {says}")
    settings = EngineSettings(Case().optimizer_config(), DeltasConfig())
    for name, of_ranks in found.items():
        expected = a_round(LocalEngine(Odd(CASES[name].with_scale, CASES[name].unused), odd_tasks(), 0, settings))
        for ours in of_ranks:
            assert ours["linear"], "stage 3 leaves its own torch.nn.functional.linear"
            for key, value in expected.items():
                assert difference(ours[key], value) <= 1e-6, f"{key} of {name}"
            shapes = {key: value.shape for key, value in expected["closed"].items()}
            assert {key: value.shape for key, value in ours["closed"].items()} == shapes
