"""Names that a user gives."""

import pytest

from avil_fast.names import repeated


@pytest.mark.parametrize(
    ("names", "found"), [([], None), (["a", "b"], None), (["c", "b", "a", "b", "c"], "c"), (["", "a", ""], "")]
)
def test_the_first_name_that_is_there_twice(names: list[str], found: str | None) -> None:
    assert repeated(names) == found
