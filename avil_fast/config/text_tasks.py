"""Settings of tasks on texts: their data, their kind, and what becomes of long or repeated rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Tag, field_validator, model_validator

from avil_fast.config.base import Count, DiskPath, Section, Whole
from avil_fast.names import repeated

FilePaths = DiskPath | tuple[DiskPath, ...]


class SplitFiles(Section):
    """Files of a task by split: csv, tsv, jsonl or parquet; several of a split are read one after the other."""

    train: FilePaths
    """The file or files with the rows to train on."""
    dev: FilePaths | None = None
    """The file or files of the dev set; null: none."""
    test: FilePaths | None = None
    """The file or files of the test set; null: none."""


class SplitNames(Section):
    """Which splits of a dataset are train, dev and test, in the notation of the package datasets, such as
    validation[:500]."""

    train: str = "train"
    """The split to train on."""
    dev: str | None = None
    """The split that is the dev set; null: none."""
    test: str | None = None
    """The split that is the test set; null: none."""


class Columns(Section):
    """Names of the columns of a task's files or dataset."""

    text: str = "text"
    """Column of the text that is read; in language modelling, where neither prompt nor messages are given, all of
    it is learned."""
    pair: str | None = None
    """Column of a second text, for tasks on pairs; null: no pairs."""
    label: str = "label"
    """Column of the label: a class, or in regression a number."""
    prompt: str | None = None
    """Column of what comes before a completion, and is not learned."""
    completion: str | None = None
    """Column of what is learned after the prompt."""
    messages: str | None = None
    """Column of chats: each is a list of {role, content}, of which the last message is the completion; the
    tokenizer's chat template makes a text of it."""


class Limits(Section):
    """Largest numbers of rows of a split; which rows are taken is drawn with the run's seed."""

    train: Count | None = None
    """Rows of the train set at most; null: all."""
    dev: Count | None = None
    """Rows of the dev set at most; null: all."""
    test: Count | None = None
    """Rows of the test set at most; null: all."""


class HoldOut(Section):
    """Rows of train that become dev and test instead; which rows is drawn with the run's seed."""

    dev: Count | None = None
    """Rows that become the dev set; null: none."""
    test: Count | None = None
    """Rows that become the test set; null: none."""
    by: str | None = None
    """Column by which rows are grouped: those with the same value stay together, so that no document, say, is in
    two splits. Rows with the same text stay together anyway."""


Kind = Literal["classification", "regression", "language_modelling"]
MetricName = Literal[
    "accuracy", "f1", "matthews", "auroc", "mse", "mae", "pearson", "spearman", "r2", "token_accuracy"
]

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "f1", "matthews", "auroc"),
    "regression": ("mse", "mae", "pearson", "spearman", "r2"),
    "language_modelling": ("token_accuracy",),
}
"""By kind of task; the first is the default, but in language modelling the dev loss is."""


class TextTaskConfig(Section):
    """A task on texts, from files or from a dataset."""

    kind: Kind = "classification"
    """Kind of the task: a class or a number for each text, or the next tokens of a text."""
    files: (
        Annotated[
            Annotated[DiskPath, Tag("folder")] | Annotated[SplitFiles, Tag("splits")],
            Discriminator(lambda files: "splits" if isinstance(files, dict | SplitFiles) else "folder"),
        ]
        | None
    ) = None
    """Where the rows are: a folder with train.csv, dev.csv and test.csv (or .tsv, .jsonl, .parquet; dev may be
    called validation), or the files by split."""
    dataset: str | None = None
    """Dataset in place of files: a folder that the package datasets can load; or hub:OWNER/NAME, the only form
    for which anything is fetched."""
    subset: str | None = None
    """Configuration name of the dataset."""
    splits: SplitNames | None = None
    """Which of the dataset's splits are train, dev and test."""
    columns: Columns = Columns()
    labels: tuple[str, ...] | None = None
    """Classes in the order of the model's outputs; null: those that the dataset names, or those of the train
    rows, numbers in their order and names in alphabetical order."""
    prompt: str | None = None
    """Template of the prompt in language modelling, with names of columns in braces, such as "Review: {text}"."""
    completion: str | None = None
    """Template of what is learned after the prompt in language modelling, such as " {label}"."""
    limits: Limits = Limits()
    hold_out: HoldOut | None = None
    """What becomes dev and test out of the train rows; null: nothing."""
    metric: MetricName | None = None
    """What chooses the best round; null: accuracy, mse, or in language modelling the dev loss."""
    overlap: Literal["stop", "drop", "allow"] = "stop"
    """What becomes of train rows that stand in the target's dev or test set as well, and of its dev rows that
    stand in test. stop: the run stops; drop: they are left out; allow: they stay."""
    too_long: Literal["cut", "drop", "stop"] = "cut"
    """What becomes of examples of more than model.max_length tokens. cut: of a prompt the beginning is cut off, of
    a text the end, and a text for language modelling is cut into pieces; drop: they are left out; stop: the run
    stops."""
    packing: bool = False
    """Put several examples into one sequence in language modelling; none sees another."""
    demonstrations: Whole = 0
    """Number of other train rows before each example in language modelling, drawn anew each time, and not learned
    (MetaICL, arXiv 2110.15943)."""
    separator: str = "\n\n"
    """Text between demonstrations."""

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
        if self.labels is not None and (twice := repeated(self.labels)) is not None:
            raise ValueError(f"labels names {twice!r} twice; name each class once")
        if self.kind == "classification" and self.labels is not None and len(self.labels) < 2:
            raise ValueError(f"labels is {list(self.labels)}, but must name all classes, two or more")
        if self.prompt is not None and self.completion is None and self.columns.completion is None:
            raise ValueError("prompt is set, but neither completion nor columns.completion; set what is learned")
        if self.packing and self.demonstrations:
            raise ValueError(
                "packing and demonstrations do not go together: these change each time; leave one out"
            )
        return self


class TextTasksConfig(Section):
    """Tasks on texts by name, beside `source`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, TextTaskConfig]

    source: Literal["texts"] = "texts"
    """Where the tasks come from."""

    @property
    def by_name(self) -> dict[str, TextTaskConfig]:
        """The tasks by their names, in the order of the file."""
        return self.__pydantic_extra__
