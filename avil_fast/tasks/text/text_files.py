"""Where in a file a row stands, and what is wrong with a file that cannot be read."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avil_fast.errors import AvilError, reason
from avil_fast.names import repeated

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")


def read_csv(path: Path) -> dict[str, list[str]]:
    """The columns of a csv file, all values as text: a label "None" or "1.0" stays what it is.

    Raises:
        AvilError: a line has another number of columns, or is not UTF-8; names file and line.
    """
    header: list[str] = []
    columns: list[list[str]] = []
    for line, row in _csv_rows(path):
        if not header:
            header, columns = row, [[] for _ in row]
            if len(row) == 1 and (other := next((c for c in ";\t|" if c in row[0]), None)):
                raise AvilError(
                    f"{path}, line {line}: there is one column, {row[0]!r}; its names seem to be separated by "
                    f"{other!r}: save the file with {DELIMITERS[path.suffix]!r} between columns"
                )
            if (twice := repeated(header)) is not None:
                raise AvilError(f"{path}, line {line}: two columns are named {twice!r}; rename one")
            continue
        if len(row) != len(header):
            raise AvilError(
                f"{path}, line {line}: there are {len(row)} columns, but the first line names {len(header)}; put "
                f"quotes around a text that has a {DELIMITERS[path.suffix]!r} or a line break in it"
            )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    if not header:
        raise AvilError(f"{path} is empty; its first line must name the columns")
    if not columns[0]:
        raise AvilError(f"{path} names columns, but has no row; fill it")
    return dict(zip(header, columns, strict=True))


def read_json(path: Path) -> dict[str, list[Any]]:
    """The columns of a jsonl file, with None where a line has no such value.

    Raises:
        AvilError: a line is no JSON object, or not UTF-8; names file and line.
    """
    columns: dict[str, list[Any]] = {}
    count = 0
    for line, text in _lines(path):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise AvilError(
                f"{path}, line {line}: this is not JSON: {reason(error)}; write one object on each line"
            ) from error
        if "\\u" in text and not _has_letters_only(row):
            raise AvilError(f"{path}, line {line}: there is half of a surrogate pair in it, no letter; correct it")
        if not isinstance(row, dict):
            raise AvilError(f"{path}, line {line}: there is a {type(row).__name__}, but must be {{column: value}}")
        for name in row.keys() - columns.keys():
            columns[name] = [None] * count
        for name, column in columns.items():
            column.append(row.get(name))
        count += 1
    if not count:
        raise AvilError(f"{path} has no row; fill it")
    if not columns:
        raise AvilError(f"{path} has {count} rows without a column; fill them")
    return columns


def _has_letters_only(value: Any) -> bool:
    r"""Whether all texts can be encoded, which JSON's \ud800 cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def where(path: Path, row: int) -> str:
    """Where a row is, for people: the file, and the line in which a row begins, counted from 0, or its number."""
    if path.suffix in DELIMITERS:
        for number, (line, fields) in enumerate(_csv_rows(path)):
            if number == row + 1:  # the first one names the columns
                return f"{path}, line {line - sum(field.count(chr(10)) for field in fields)}"
    elif path.suffix in JSON_LINES:
        for number, (line, _) in enumerate(_lines(path)):
            if number == row:
                return f"{path}, line {line}"
    return f"{path}, row {row + 1}"


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(the line where it ends, fields) of every row; empty lines are none."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(
        (text for _, text in _lines(path, blank=True)), delimiter=DELIMITERS[path.suffix], strict=True
    )
    try:
        for row in reader:
            if path.suffix == ".tsv" and any("\n" in field for field in row):
                raise AvilError(
                    f"{path}, line {reader.line_num}: a text in quotes has a line break in it; where quotes mean "
                    f"nothing, as in many tsv files, save the file as csv"
                )
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise AvilError(f"{path}, line {reader.line_num}: {reason(error)}; check its quotes") from error


def _lines(path: Path, blank: bool = False) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of every line that is not blank, or of all."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise AvilError(
                    f"{path}, line {number}: byte {line[error.start]:#04x} is not UTF-8; save the file as UTF-8"
                ) from error
            if "\0" in text:
                raise AvilError(f"{path}, line {number}: there is a NUL byte in it; this is no text file")
            if blank or text.strip():
                yield number, text
