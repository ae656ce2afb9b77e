"""The figures on the pages are those of the committed results."""

from pathlib import Path

import pytest

from benchmarks.pages import TABLES, rendered


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.name)
def test_the_tables_are_made_from_the_results(page: Path) -> None:
    assert rendered(page) == page.read_text(encoding="utf-8"), "run `python -m benchmarks.pages`"
