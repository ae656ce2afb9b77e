"""Rated texts, and splits of them in which nothing leaks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from avil_fast.errors import AvilError


@dataclass(frozen=True)
class Rated:
    """A text, its id, and its mean human rating in [-4, 4]."""

    id: str
    rating: float
    text: str

    @property
    def group(self) -> str:
        """What the text is part of: a review's sentences have ids 12_1, 12_2 and so on."""
        return self.id.rpartition("_")[0] or self.id

    @property
    def key(self) -> str:
        """The same for the same text, whatever its spaces and capitals."""
        return " ".join(self.text.lower().split())

    @property
    def label(self) -> int:
        """1 for a positive rating, 0 for a negative one."""
        return int(self.rating > 0)


def parse(content: bytes, name: str) -> list[Rated]:
    """The rated texts of a file: UTF-8, a line each, id, rating and text between tabs.

    Args:
        name: of the file, for messages.

    Raises:
        AvilError: a line is not of that form; names file, line and value.
    """
    rows, lines = [], content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip() or number < len(lines):  # the last line may be the end of the one before
            rows.append(_row(line, f"{name}, line {number}"))
    return rows


def select(rows: Sequence[Rated], min_rating: float, without: frozenset[str] = frozenset()) -> list[Rated]:
    """Rows with a clear rating, each text once, and none whose `key` is in `without`."""
    kept: dict[str, Rated] = {}
    for row in rows:
        if row.rating != 0 and abs(row.rating) >= min_rating and row.key not in without:
            kept.setdefault(row.key, row)
    return list(kept.values())


def split(rows: Sequence[Rated], sizes: Sequence[int], seed: int) -> list[list[Rated]]:
    """Random parts of the given sizes, filled one after the other, of which no two hold rows of one group.

    A part takes whole groups, and what its last group has too much is left out. The size of a part has no
    influence on the parts before it. A part is shorter than asked for where the rows come to an end.
    """
    groups: dict[str, list[Rated]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    rest, parts = iter(order), []
    for size in sizes:
        part: list[Rated] = []
        while len(part) < size and (group := next(rest, None)) is not None:
            part += groups[group]
        parts.append(part[:size])
    return parts


def _row(line: bytes, where: str) -> Rated:
    try:
        columns = line.decode("utf-8").rstrip("\r").split("\t")
    except UnicodeDecodeError as error:
        raise AvilError(f"{where}: byte {line[error.start]:#04x} is not UTF-8; save the file as UTF-8") from error
    if len(columns) != 3:
        raise AvilError(f"{where}: there are {len(columns)} columns, but must be id, rating and text between tabs")
    id_, rating, text = (column.strip() for column in columns)
    for name, value in (("id", id_), ("text", text)):
        if not value:
            raise AvilError(f"{where}: the {name} is empty; fill it in or take the line out")
    try:
        number = float(rating)
    except ValueError:
        number = float("nan")
    if not -4 <= number <= 4:
        raise AvilError(f"{where}: the rating is {rating!r}, but must be a number from -4 to 4")
    return Rated(id_, number, text)
