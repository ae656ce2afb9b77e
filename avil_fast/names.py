"""Names that a user gives, or that come out of a file which somebody else may have written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def is_plain(name: object) -> bool:
    """Whether a name is that of a file beside the one that holds it, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name)


def repeated(names: Sequence[str]) -> str | None:
    """The first name that is there more than once."""
    count = Counter(names)
    return next((name for name in names if count[name] > 1), None)
