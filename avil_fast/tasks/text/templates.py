"""Prompts out of rows: "Review: {text}", with names of columns in braces and nothing else."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from avil_fast.errors import AvilError


def fields(template: str, columns: Sequence[str], setting: str, name: str) -> list[str]:
    """The columns that a template names.

    Args:
        columns: that there are.
        setting, name: of the template and the table, for messages.

    Raises:
        AvilError: it names another column, or has more in its braces than a name.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise AvilError(f"{setting} is {template!r}: {error}; write {{{{ for a brace that is text") from error
    found = []
    for _, field, form, conversion in parts:
        if field is None:
            continue
        if form or conversion or not field:
            raise AvilError(
                f"{setting} is {template!r}, but in braces there can be a column's name only; write {{{{ for a "
                f"brace that is text"
            )
        if field not in columns:
            raise AvilError(
                f"{setting} is {template!r}, but {name} has no column {field!r}, only {', '.join(columns)}; "
                f"name one of them, or write {{{{ for a brace that is text"
            )
        found.append(field)
    return found


def fill(template: str, row: Mapping[str, Any]) -> str:
    """The template with a row's values, whose own braces mean nothing."""
    return "".join(
        text + ("" if field is None else str(row[field]))
        for text, field, _, _ in string.Formatter().parse(template)
    )
