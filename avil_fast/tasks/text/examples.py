"""What a task learns from: texts and labels, each of which knows its row."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from avil_fast.config.tasks import TextTaskConfig
from avil_fast.errors import AvilError, reason
from avil_fast.tasks.text import templates
from avil_fast.tasks.text.tables import Table


@dataclass(frozen=True)
class Examples:
    """Some rows of a table, as a task reads them.

    Attributes:
        table: where they come from.
        rows: their numbers in it.
        first: the text; or in language modelling the prompt, empty for a plain text.
        second: the other text of a pair; or what is learned.
        labels: class numbers or values; None in language modelling.
        groups: rows of the same group stay together when some are held out.
        sources: texts of the row that it is made of, without what is to be learned; `first` and `second` if None.
    """

    table: Table
    rows: Sequence[int]
    first: Sequence[str]
    second: Sequence[str] | None = None
    labels: Sequence[int | float] | None = None
    groups: Sequence[str] | None = None
    sources: Sequence[Sequence[str]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, index: int) -> str:
        """File and line of an example."""
        return self.table.where(self.rows[index])

    def key(self, index: int) -> str:
        """The same for examples of the same texts, whatever their order, template, spaces and capitals."""
        if self.sources is not None:
            texts = self.sources[index]
        else:
            texts = (self.first[index],) if self.second is None else (self.first[index], self.second[index])
        folded = (" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in texts)
        return "\n".join(sorted(text for text in folded if text))

    def take(self, indices: Sequence[int]) -> Examples:
        """Those examples alone."""

        def of(values: Sequence[Any] | None) -> Sequence[Any] | None:
            return None if values is None else [values[index] for index in indices]

        return replace(
            self,
            rows=[self.rows[index] for index in indices],
            first=[self.first[index] for index in indices],
            second=of(self.second),
            labels=of(self.labels),
            groups=of(self.groups),
            sources=of(self.sources),
        )


def read(task: str, config: TextTaskConfig, table: Table, classes: Sequence[str], tokenizer: Any) -> Examples:
    """All rows of a table as examples.

    Args:
        classes: see `classes_of`; none but for classification.
        tokenizer: whose chat template is used for messages.

    Raises:
        AvilError: a column is missing, a label unknown, a text empty, a template wrong; names file and line.
    """
    columns, setting = config.columns, f"tasks.{task}.columns"
    groups = None
    if config.hold_out is not None and config.hold_out.by is not None:
        by = table.column(config.hold_out.by, f"tasks.{task}.hold_out.by")
        groups = [str(value) for value in by]
    rows = range(len(table))
    if config.kind == "language_modelling":
        first, second, sources = _completions(task, config, table, tokenizer)
        return Examples(table, rows, first, second, None, groups, sources)
    text = _texts(table, columns.text, f"{setting}.text")
    pair = _texts(table, columns.pair, f"{setting}.pair") if columns.pair is not None else None
    values = table.column(columns.label, f"{setting}.label")
    labels: Sequence[int | float]
    if config.kind == "regression":
        labels = [_number(table, row, columns.label, value) for row, value in enumerate(values)]
    else:
        own, number = table.classes(columns.label), {name: index for index, name in enumerate(classes)}
        labels = [
            _class(table, row, columns.label, _named(value, own), number) for row, value in enumerate(values)
        ]
    return Examples(table, rows, text, pair, labels, groups)


def classes_of(task: str, config: TextTaskConfig, train: Table) -> tuple[str, ...]:
    """The names of a classification's classes, in the order of the model's outputs.

    Those of the config; or those that the data set names; or those that stand in train, numbers in their order and
    other names in alphabetical order.

    Raises:
        AvilError: the column is missing, or there are fewer than two classes.
    """
    column = config.columns.label
    names = config.labels or train.classes(column)
    if names is None:
        values = train.column(column, f"tasks.{task}.columns.label")
        for row, value in enumerate(values):
            if _is_missing(value):
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


def _is_missing(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())  # NaN


def _named(value: Any, names: tuple[str, ...] | None) -> Any:
    """A value of a column whose numbers stand for these names; None for a number that stands for nothing."""
    if names is None or isinstance(value, bool) or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _in_order(name: str) -> tuple[bool, float, str]:
    try:
        number = float(name)
    except ValueError:
        return (True, 0.0, name)
    return (False, number, name) if math.isfinite(number) else (True, 0.0, name)


def _class(table: Table, row: int, column: str, value: Any, number: dict[str, int]) -> int:
    found = None if _is_missing(value) else number.get(str(value).strip())
    if found is None:
        known = ", ".join(list(number)[:10]) + (", ..." if len(number) > 10 else "")
        what = "missing" if _is_missing(value) else repr(value)
        raise AvilError(
            f"{table.where(row)}: the {column} is {what}, but the classes are {known}; correct it, or leave the "
            f"row out"
        )
    return found


def _number(table: Table, row: int, column: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise AvilError(f"{table.where(row)}: the {column} is {value!r}, but must be a number")
    return number


def _texts(table: Table, column: str, setting: str) -> list[str]:
    values = table.column(column, setting)
    return [_text(table, row, column, value) for row, value in enumerate(values)]


def _text(table: Table, row: int, column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise AvilError(
            f"{table.where(row)}: the {column} is {value!r}, but must be a text; correct it, or leave the row out"
        )
    if not value.strip():
        raise AvilError(f"{table.where(row)}: the {column} is empty; fill it in, or leave the row out")
    return value


Completions = tuple[list[str], list[str], list[tuple[str, ...]]]
"""Prompts, what is learned after each, and the texts that a prompt is made of."""


def _completions(task: str, config: TextTaskConfig, table: Table, tokenizer: Any) -> Completions:
    columns, setting = config.columns, f"tasks.{task}"
    if columns.messages is not None:
        return _chats(table, columns.messages, f"{setting}.columns.messages", tokenizer)
    if config.completion is None and columns.completion is None:
        texts = _texts(table, columns.text, f"{setting}.columns.text")
        return [""] * len(texts), texts, [(text,) for text in texts]
    if config.completion is not None:
        learned, _ = _filled(table, config.completion, f"{setting}.completion", optional=False)
    else:
        learned = _texts(table, str(columns.completion), f"{setting}.columns.completion")
    if config.prompt is not None:
        prompts, sources = _filled(table, config.prompt, f"{setting}.prompt", optional=True)
    elif columns.prompt is not None:
        prompts = _texts(table, columns.prompt, f"{setting}.columns.prompt")
        sources = [(prompt,) for prompt in prompts]
    else:
        prompts, sources = [""] * len(learned), [()]
    if not any(sources):  # the prompt is the same for all rows
        sources = [(text,) for text in learned]
    return prompts, learned, sources


def _filled(table: Table, template: str, setting: str, optional: bool) -> tuple[list[str], list[tuple[str, ...]]]:
    """A template with the values of every row, and these values; they may be empty if that is `optional`."""
    names = templates.fields(template, table.names, setting, table.name)
    columns = {name: table.column(name, setting) for name in names}
    classes = {name: table.classes(name) for name in names}
    texts, sources = [], []
    for row in range(len(table)):
        values = {name: _named(columns[name][row], classes[name]) for name in names}
        for name, value in values.items():
            if _is_missing(value) and not (optional and value == ""):
                raise AvilError(f"{table.where(row)}: the {name} is missing; fill it in, or leave the row out")
        texts.append(templates.fill(template, values))
        sources.append(tuple(str(value) for value in values.values()))
    return texts, sources


def _chats(table: Table, column: str, setting: str, tokenizer: Any) -> Completions:
    if getattr(tokenizer, "chat_template", None) is None:
        raise AvilError(f"{setting} is {column!r}, but the model's tokenizer has no chat template; use prompt")
    prompts, learned, sources = [], [], []
    for row, messages in enumerate(table.column(column, setting)):
        if not _is_chat(messages):
            raise AvilError(
                f"{table.where(row)}: the {column} must be a list of two or more {{role, content}} with texts, of "
                f"which the last has the role assistant; correct it, or leave the row out"
            )
        try:
            prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # a template is code of its own, and raises what it likes
            raise AvilError(
                f"{table.where(row)}: the chat template refuses it: {reason(error)}; correct it or leave it out"
            ) from error
        if not whole.startswith(prompt) or whole == prompt:
            raise AvilError(
                f"{table.where(row)}: the chat template changes the prompt when the answer follows; use prompt "
                f"and completion instead of messages"
            )
        prompts.append(prompt)
        learned.append(whole.removeprefix(prompt))
        sources.append(tuple(message["content"] for message in messages[:-1]))
    return prompts, learned, sources


def _is_chat(messages: Any) -> bool:
    return (
        isinstance(messages, list)
        and len(messages) >= 2
        and all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages)
        and messages[-1].get("role") == "assistant"
        and bool(messages[-1]["content"].strip())
    )
