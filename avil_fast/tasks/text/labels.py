"""The labels of a task's rows: names of classes, class numbers, values of a regression."""

from __future__ import annotations

import math
from typing import Any

from avil_fast.config.text_tasks import TextTaskConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.text.tables import SourceTable


def classes_of(task: str, config: TextTaskConfig, train: SourceTable) -> tuple[str, ...]:
    """The names of a classification's classes, in the order of the model's outputs.

    Those of the config; or those that the dataset names; or those that stand in train, numbers in their order and
    other names in alphabetical order.

    Raises:
        AvilError: the column is missing, or there are fewer than two classes.
    """
    column = config.columns.label
    names = config.labels or train.classes(column)
    if names is None:
        values = train.column(column, f"tasks.{task}.columns.label")
        for row, value in enumerate(values):
            if is_missing(value):
                raise AvilError(f"{train.where(row)}: the {column} is missing; fill it in, or leave the row out")
        names = tuple(sorted({str(value).strip() for value in values}, key=_in_order))
    if len(names) < 2:
        raise AvilError(
            f"{train.name} has {len(names)} classes in its column {column!r}, but there must be two; name all in "
            f"tasks.{task}.labels, or set kind: regression"
        )
    if len(names) > 1000 and config.labels is None:
        raise AvilError(
            f"{train.name} has {len(names)} classes in its column {column!r}; set tasks.{task}.columns.label to "
            f"the right one, or kind: regression, or name the classes in tasks.{task}.labels"
        )
    return tuple(names)


def _in_order(name: str) -> tuple[bool, float, str]:
    try:
        number = float(name)
    except ValueError:
        return (True, 0.0, name)
    return (False, number, name) if math.isfinite(number) else (True, 0.0, name)


def class_number(table: SourceTable, row: int, column: str, value: Any, number: dict[str, int]) -> int:
    """The number of a row's class.

    Args:
        value: what the row has in the column, by name if the column holds numbers of classes.
        number: numbers of the classes, by name.

    Raises:
        AvilError: there is no such class; names file and line.
    """
    found = None if is_missing(value) else number.get(str(value).strip())
    if found is None:
        known = ", ".join(list(number)[:10]) + (", ..." if len(number) > 10 else "")
        what = "missing" if is_missing(value) else repr(value)
        raise AvilError(
            f"{table.where(row)}: the {column} is {what}, but the classes are {known}; correct it, or leave the "
            f"row out"
        )
    return found


def finite_number(table: SourceTable, row: int, column: str, value: Any) -> float:
    """The value of a row as a number.

    Raises:
        AvilError: it is none, or not finite; names file and line.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise AvilError(f"{table.where(row)}: the {column} is {value!r}, but must be a number")
    return number


def meaning(value: Any, names: tuple[str, ...] | None) -> Any:
    """A value of a column whose numbers stand for these names; None for a number that stands for nothing."""
    if names is None or isinstance(value, bool) or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def is_missing(value: Any) -> bool:
    """Whether a row has no value there: None, NaN or a blank text."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())  # NaN
