"""A table of rows that know where they stand: in which file and line, or which row of a dataset."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from avil_fast.errors import AvilError
from avil_fast.tasks.text import text_files


@dataclass(frozen=True)
class SourceTable:
    """Rows of one split, which know where they stand.

    Attributes:
        rows: columns by name; or a Dataset of the package datasets.
        name: of the table, for people.
        files: whose rows these are, one file after the other; none for a dataset.
        counts: rows of each file.
    """

    rows: Any
    name: str
    files: Sequence[Path] = ()
    counts: Sequence[int] = ()

    def __len__(self) -> int:
        return sum(self.counts) if self.files else len(self.rows)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.rows) if isinstance(self.rows, dict) else list(self.rows.column_names)

    def column(self, name: str, setting: str) -> list[Any]:
        """All values of a column.

        Raises:
            AvilError: there is no such column.
        """
        if name not in self.names:
            near = difflib.get_close_matches(
                name.strip().lower(), [own.strip().lower() for own in self.names], n=1
            )
            like = [own for own in self.names if [own.strip().lower()] == near]
            hint = f"{setting}={like[0]!r}?" if like else setting
            known = ", ".join(map(repr, self.names))
            raise AvilError(f"{self.name} has no column {name!r}, but {known}; set {hint}")
        return list(self.rows[name] if isinstance(self.rows, dict) else self.rows[name][:])

    def texts(self, name: str, setting: str) -> list[str]:
        """All values of a column of texts.

        Raises:
            AvilError: there is no such column, or a value is no text, or blank; names file and line.
        """
        values = self.column(name, setting)
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise AvilError(
                    f"{self.where(row)}: the {name} is {value!r}, but must be a text; correct it, or leave the "
                    f"row out"
                )
            if not value.strip():
                raise AvilError(f"{self.where(row)}: the {name} is empty; fill it in, or leave the row out")
        return values

    def classes(self, column: str) -> tuple[str, ...] | None:
        """The names of the classes that a dataset gives a column of numbers."""
        features = {} if isinstance(self.rows, dict) else self.rows.features
        names = getattr(features.get(column), "names", None)
        return tuple(map(str, names)) if names else None

    def where(self, row: int) -> str:
        """File and line of a row, for people."""
        ends = list(accumulate(self.counts))
        if not ends:
            return f"{self.name}, row {row + 1}"
        file = bisect.bisect_right(ends, row)
        return text_files.where(self.files[file], row - (ends[file] - self.counts[file]))
