"""Settings of tasks on texts: their data, their kind, and what becomes of long or repeated rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Tag, field_validator, model_validator

from avil_fast.config.base import Count, DiskPath, Section, Whole

Files = DiskPath | tuple[DiskPath, ...]


class SplitFiles(Section):
    """Files of a task, csv, tsv, jsonl or parquet; several of a split are read one after the other."""

    train: Files
    dev: Files | None = None
    test: Files | None = None


class SplitNames(Section):
    """Splits of a data set, in the notation of the package datasets: train, validation[:500]."""

    train: str = "train"
    dev: str | None = None
    test: str | None = None


class Columns(Section):
    """Names of a file's columns."""

    text: str = "text"
    """What is read; in language modelling, where neither prompt nor messages are given, all of it is learned."""
    pair: str | None = None
    """A second text, for tasks on pairs."""
    label: str = "label"
    """A class, or in regression a number."""
    prompt: str | None = None
    """What comes before a completion; not learned."""
    completion: str | None = None
    """What is learned."""
    messages: str | None = None
    """A chat: a list of {role, content}, of which the last message is the completion; the tokenizer's chat
    template makes a text of it."""


class Limits(Section):
    """Rows at most; which ones is a draw with the run's seed."""

    train: Count | None = None
    dev: Count | None = None
    test: Count | None = None


class HoldOut(Section):
    """Rows of train that become dev and test instead; which ones is a draw with the run's seed."""

    dev: Count | None = None
    test: Count | None = None
    by: str | None = None
    """A column: rows with the same value stay together, so that no document, say, is in two splits. Rows with the
    same text stay together anyway."""


Kind = Literal["classification", "regression", "language_modelling"]
Metric = Literal[
    "accuracy", "f1", "matthews", "auroc", "mse", "mae", "pearson", "spearman", "r2", "token_accuracy"
]

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "f1", "matthews", "auroc"),
    "regression": ("mse", "mae", "pearson", "spearman", "r2"),
    "language_modelling": ("token_accuracy",),
}
"""By kind of task; the first is the default, but in language modelling the dev loss is."""


class TextTaskConfig(Section):
    """A task on texts, from files or from a data set."""

    kind: Kind = "classification"
    files: (
        Annotated[
            Annotated[DiskPath, Tag("folder")] | Annotated[SplitFiles, Tag("splits")],
            Discriminator(lambda files: "splits" if isinstance(files, dict | SplitFiles) else "folder"),
        ]
        | None
    ) = None
    """A folder with train.csv, dev.csv and test.csv (or .tsv, .jsonl, .parquet; dev may be called validation), or
    the files by split."""
    dataset: str | None = None
    """A data set instead of files: a folder that the package datasets can load; or hub:OWNER/NAME, the only form
    for which anything is fetched."""
    subset: str | None = None
    """Of a data set: its configuration."""
    splits: SplitNames | None = None
    """Of a data set."""
    columns: Columns = Columns()
    labels: tuple[str, ...] | None = None
    """Classes in the order of the model's outputs; null: those of the train rows, in alphabetical order."""
    prompt: str | None = None
    """In language modelling: a template such as "Review: {text}", with names of columns in braces."""
    completion: str | None = None
    """The same for what is learned, such as " {label}"."""
    limits: Limits = Limits()
    hold_out: HoldOut | None = None
    metric: Metric | None = None
    """null: accuracy, mse, or in language modelling the dev loss."""
    overlap: Literal["stop", "drop", "allow"] = "stop"
    """What becomes of train rows that stand in the target's dev or test as well."""
    too_long: Literal["cut", "drop", "stop"] = "cut"
    """What becomes of examples of more than model.max_length tokens. Of a prompt the beginning is cut off, of a
    text the end; a text for language modelling is cut into pieces."""
    packing: bool = False
    """In language modelling: several examples in one sequence, none of which sees another."""
    demonstrations: Whole = 0
    """In language modelling: so many other train rows before each, drawn anew each time, and not learned (MetaICL,
    arXiv 2110.15943)."""
    separator: str = "\n\n"
    """Between demonstrations."""

    @field_validator("labels", mode="before")
    @classmethod
    def _numbers_are_names(cls, labels: Any) -> Any:
        return (
            [str(name) if type(name) is int else name for name in labels] if isinstance(labels, list) else labels
        )

    @model_validator(mode="after")
    def _one_source(self) -> TextTaskConfig:
        if (self.files is None) == (self.dataset is None):
            raise ValueError("a task needs either files or dataset; set one of them")
        if self.dataset is None and (self.subset or self.splits):
            raise ValueError("subset and splits belong to a dataset, but the task has files; leave them out")
        return self

    @model_validator(mode="after")
    def _matching_kind(self) -> TextTaskConfig:
        language = self.kind == "language_modelling"
        for name in ("prompt", "completion", "packing", "demonstrations"):
            if getattr(self, name) and not language:
                raise ValueError(f"{name} needs kind: language_modelling, but kind is {self.kind}; leave it out")
        if self.metric is not None and self.metric not in METRICS[self.kind]:
            raise ValueError(
                f"metric is {self.metric}, but {self.kind} has {', '.join(METRICS[self.kind])}; set one of them"
            )
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels names {_twice(self.labels)!r} twice; name each class once")
        if self.prompt is not None and self.completion is None and self.columns.completion is None:
            raise ValueError("prompt is set, but neither completion nor columns.completion; set what is learned")
        if self.packing and self.demonstrations:
            raise ValueError(
                "packing and demonstrations do not go together: these change each time; leave one out"
            )
        return self


def _twice(names: tuple[str, ...]) -> str:
    return next(name for name in names if names.count(name) > 1)


class TextTasksConfig(Section):
    """Tasks on texts by name, beside `source`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, TextTaskConfig]

    source: Literal["texts"] = "texts"

    @property
    def by_name(self) -> dict[str, TextTaskConfig]:
        return self.__pydantic_extra__
