"""What `make test` leaves out, and `make test-all` runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

SLOW = pytest.mark.slow


def slow_but(*quick: Any, of: Iterable[Any], group: str | None = None) -> list[Any]:
    """Values for parametrize, all marked slow but some, and all of a group that one process runs."""
    together = [pytest.mark.xdist_group(group)] if group else []
    return [pytest.param(value, marks=together if value in quick else [*together, SLOW]) for value in of]
