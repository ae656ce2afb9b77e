"""What a task learns from: texts and labels, each of which knows its row."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from avil_fast.config.text_tasks import TextTaskConfig
from avil_fast.tasks.text.labels import class_number, finite_number, meaning
from avil_fast.tasks.text.prompts import prompted
from avil_fast.tasks.text.tables import SourceTable


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

    table: SourceTable
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


def read(
    task: str, config: TextTaskConfig, table: SourceTable, classes: Sequence[str], tokenizer: Any
) -> Examples:
    """All rows of a table as examples.

    Args:
        classes: see `labels.classes_of`; none but for classification.
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
        first, second, sources = prompted(task, config, table, tokenizer)
        return Examples(table, rows, first, second, None, groups, sources)
    text = table.texts(columns.text, f"{setting}.text")
    pair = table.texts(columns.pair, f"{setting}.pair") if columns.pair is not None else None
    values = table.column(columns.label, f"{setting}.label")
    labels: Sequence[int | float]
    if config.kind == "regression":
        labels = [finite_number(table, row, columns.label, value) for row, value in enumerate(values)]
    else:
        own, number = table.classes(columns.label), {name: index for index, name in enumerate(classes)}
        labels = [
            class_number(table, row, columns.label, meaning(value, own), number)
            for row, value in enumerate(values)
        ]
    return Examples(table, rows, text, pair, labels, groups)
