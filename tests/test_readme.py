"""The README's figures are those of the committed results."""

from benchmarks.table import README, rendered


def test_the_tables_are_made_from_the_results() -> None:
    text = README.read_text(encoding="utf-8")
    assert rendered(text) == text, "run `python -m benchmarks.table`"
