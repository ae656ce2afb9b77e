"""How many cases: a few by default, all with `--fuzz`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Cases = Callable[[int, int], int]
"""Of a few and of all, which it is to be."""


@pytest.fixture(scope="session")
def cases(pytestconfig: pytest.Config) -> Cases:
    return lambda few, all_: all_ if pytestconfig.getoption("--fuzz") else few
