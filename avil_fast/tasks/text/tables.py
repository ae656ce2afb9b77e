"""Rows from files or a data set, which know where they stand."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from avil_fast.errors import AvilError
from avil_fast.task_config import SplitFiles, TextTaskConfig
from avil_fast.tasks.text import lines
from avil_fast.tasks.text.packages import quiet_datasets, require

KINDS = (".csv", ".tsv", *lines.JSON_LINES, ".parquet")
NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}
"""What a split's file in a folder may be called."""


@dataclass(frozen=True)
class Table:
    """Rows of one split.

    Attributes:
        rows: of the package datasets.
        name: for people.
        files: whose rows these are, one file after the other; none for a data set.
        counts: rows of each file.
    """

    rows: Any
    name: str
    files: Sequence[Path] = ()
    counts: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str, setting: str) -> list[Any]:
        """All values of a column.

        Raises:
            AvilError: there is no such column.
        """
        if name not in self.rows.column_names:
            raise AvilError(
                f"{self.name} has no column {name!r}, but {', '.join(self.rows.column_names)}; set {setting}"
            )
        return list(self.rows[name])

    def where(self, row: int) -> str:
        """File and line of a row, for people."""
        ends = list(accumulate(self.counts))
        if not ends:
            return f"{self.name}, row {row + 1}"
        file = bisect.bisect_right(ends, row)
        return lines.where(self.files[file], row - (ends[file] - self.counts[file]))


def read(task: str, config: TextTaskConfig) -> dict[str, Table]:
    """Train, and dev and test if the task has them.

    Raises:
        AvilError: something cannot be read; names the task, and file and line if that can be told.
    """
    require("datasets")
    if config.dataset is not None:
        return _data_set(task, config)
    named = config.files if isinstance(config.files, SplitFiles) else _in_folder(task, config.files or Path())
    tables = {}
    for split in NAMES:
        files = getattr(named, split)
        if files is not None:
            tables[split] = _files(task, split, (files,) if isinstance(files, Path) else files)
    return tables


def _in_folder(task: str, folder: Path) -> SplitFiles:
    if not folder.is_dir():
        what = "a file; write files: {train: ...}" if folder.is_file() else "no folder that is there"
        raise AvilError(f"tasks.{task}.files is {str(folder)!r}, which is {what}; check it")
    found: dict[str, Path] = {}
    for split, names in NAMES.items():
        paths = [path for name in names for kind in KINDS if (path := folder / (name + kind)).is_file()]
        if len(paths) > 1:
            raise AvilError(
                f"tasks.{task}.files is {str(folder)!r}, where both {paths[0].name} and {paths[1].name} could be "
                f"{split}; name the files"
            )
        if paths:
            found[split] = paths[0]
    if "train" not in found:
        raise AvilError(
            f"tasks.{task}.files is {str(folder)!r}, which has no train{', train'.join(KINDS)}; name the files"
        )
    return SplitFiles(**found)


def _files(task: str, split: str, files: Sequence[Path]) -> Table:
    import datasets

    parts = [_file(task, split, path) for path in files]
    try:
        rows = datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    except ValueError as error:  # columns of other types
        names = ", ".join(map(str, files))
        raise AvilError(f"tasks.{task}.files.{split}: {names} do not go together: {_said(error)}") from error
    return Table(
        rows, str(files[0]) if len(files) == 1 else f"{files[0]}, ...", files, [len(part) for part in parts]
    )


def _file(task: str, split: str, path: Path) -> Any:
    from datasets import Dataset, Features, Value

    setting = f"tasks.{task}.files.{split} is {str(path)!r}"
    if not path.is_file():
        raise AvilError(f"{setting}, but there is no such file; check the path")
    if path.suffix not in KINDS:
        raise AvilError(f"{setting}, but its name must end in {', '.join(KINDS)}")
    try:
        with quiet_datasets():
            if path.suffix in lines.DELIMITERS:
                columns = lines.csv_columns(path)
                # All as text: otherwise a label "None" or "1.0" is read as something else.
                text = Features({name: Value("string") for name in columns})
                options: Any = {"sep": lines.DELIMITERS[path.suffix], "keep_default_na": False, "na_filter": False}
                rows = Dataset.from_csv(str(path), features=text, **options)
            elif path.suffix in lines.JSON_LINES:
                lines.json_lines(path)
                rows = Dataset.from_json(str(path)) if path.stat().st_size else []
            else:
                rows = Dataset.from_parquet(str(path))
    except AvilError:
        raise
    except Exception as error:  # datasets wraps what its readers raise, of all kinds
        raise AvilError(f"{path} cannot be read as {path.suffix[1:]}: {_said(error)}") from error
    if len(rows) == 0:
        raise AvilError(f"{path} has no row; fill it, or leave the {split} set of {task} out")
    return rows


def _data_set(task: str, config: TextTaskConfig) -> dict[str, Table]:
    import datasets

    name = "/".join(part for part in (config.dataset, config.subset) if part)
    tables = {}
    for split, rows_of in (config.splits.model_dump() if config.splits else {"train": "train"}).items():
        if rows_of is None:
            continue
        try:
            with quiet_datasets():
                rows = datasets.load_dataset(config.dataset or "", config.subset, split=rows_of)
        except Exception as error:  # whatever a hub, a network or a reader raises
            raise AvilError(
                f"tasks.{task}.dataset is {config.dataset!r}, whose split {rows_of!r} cannot be loaded: "
                f"{_said(error)}"
            ) from error
        if len(rows) == 0:
            raise AvilError(f"tasks.{task}.dataset is {config.dataset!r}, whose split {rows_of!r} has no row")
        tables[split] = Table(rows, f"{name}, {rows_of}")
    return tables


def _said(error: BaseException) -> str:
    """What went wrong at the bottom, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300]
