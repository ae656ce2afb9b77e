"""Benchmarks run with `--benchmark` only; GPU tests where there is a GPU."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch

import benchmarks  # noqa: F401  # finds the kernels of a checkout that is not installed

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports the kernels


os.environ.setdefault("DS_ACCELERATOR", "cpu")  # on a machine with a GPU, too, but for tests that name it

HERE = Path(__file__).parent
BARE = any(importlib.util.find_spec(name) is None for name in ("hypothesis", "pydantic"))
"""torch and triton alone, as on a machine lent for its GPU."""

RUN_BARE = (HERE / "tests" / "ops", HERE / "tests" / "deltas")
"""The tests of what needs no more; a conftest.py there leaves out the files that do."""


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests remember of models is not the user's."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    needs_more = collection_path.name.startswith("test_") and collection_path.parent not in RUN_BARE
    return True if BARE and needs_more else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deepspeed-ops", action="store_true", help="compile DeepSpeed's Adam and test with it")
    parser.addoption("--benchmark", action="store_true", help="run the benchmarks, which are skipped otherwise")
    parser.addoption(
        "--every-point", action="store_true", help="resume from every point of the small runs, not a few"
    )
    parser.addoption("--fuzz", action="store_true", help="try all bad input that tests/fuzz makes up, not a few")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "benchmark" in getattr(item, "fixturenames", ()) and not config.getoption("--benchmark"):
            item.add_marker(pytest.mark.skip(reason="a benchmark: run with --benchmark"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
