"""Where a task's rows come from: files, a folder of files, or a dataset of the package datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from avil_fast.config.text_tasks import SplitFiles, SplitNames, TextTaskConfig
from avil_fast.errors import AvilError, reason
from avil_fast.files.yaml_text import NoYaml, parse
from avil_fast.tasks.text import text_files
from avil_fast.tasks.text.model_path import HUB, hub_advice
from avil_fast.tasks.text.packages import quiet_datasets, require
from avil_fast.tasks.text.tables import SourceTable

KINDS = (".csv", ".tsv", *text_files.JSON_LINES, ".parquet")
NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}
"""What a split's file in a folder may be called."""


def read(task: str, config: TextTaskConfig, splits: Sequence[str] = tuple(NAMES)) -> dict[str, SourceTable]:
    """The rows of a task by split: train, and dev and test if they are asked for and the task has them.

    Raises:
        AvilError: something cannot be read; names the task, and file and line if that can be told.
    """
    require("datasets")
    if config.dataset is not None:
        return _data_set(task, config, splits)
    named = config.files if isinstance(config.files, SplitFiles) else _in_folder(task, config.files or Path())
    tables = {}
    for split in splits:
        files = getattr(named, split)
        if files is not None:
            tables[split] = _files(task, split, (files,) if isinstance(files, Path) else files)
    return tables


def _in_folder(task: str, folder: Path) -> SplitFiles:
    if not folder.is_dir():
        setting = f"tasks.{task}.files is {str(folder)!r}"
        if folder.is_file():
            raise AvilError(f"{setting}, which is a file; write files: {{train: {folder}}}, or name a folder")
        raise AvilError(f"{setting}, but {str(Path.cwd())!r} has no such folder; check the path")
    found: dict[str, Path] = {}
    for split in NAMES:
        paths = _of_split(folder, split)
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


def _of_split(folder: Path, split: str) -> list[Path]:
    """The files in a folder that could be a split."""
    return [path for name in NAMES[split] for kind in KINDS if (path := folder / (name + kind)).is_file()]


def same_source(one: TextTaskConfig, other: TextTaskConfig, split: str) -> bool:
    """Whether a file that is there, or a part of a dataset, is in this split of both."""
    if one.dataset is not None or other.dataset is not None:
        wanted = [(it.dataset, it.subset, getattr(it.splits or SplitNames(), split)) for it in (one, other)]
        return wanted[0] == wanted[1]
    return bool(_paths(one, split) & _paths(other, split))


def _paths(config: TextTaskConfig, split: str) -> set[Path]:
    if isinstance(config.files, Path):
        found = _of_split(config.files, split)
    else:
        named = getattr(config.files, split, None) or ()
        found = [named] if isinstance(named, Path) else list(named)
    return {path.resolve() for path in found}


def _files(task: str, split: str, files: Sequence[Path]) -> SourceTable:
    parts = [_file(task, split, path) for path in files]
    name = str(files[0]) if len(files) == 1 else f"{files[0]}, ..."
    counts = [len(next(iter(part.values()))) if isinstance(part, dict) else len(part) for part in parts]
    if len(parts) == 1:
        return SourceTable(parts[0], name, files, counts)
    tables = [SourceTable(part, str(path)) for part, path in zip(parts, files, strict=True)]
    for table in tables[1:]:
        if lacking := sorted(set(tables[0].names) ^ set(table.names)):
            raise AvilError(
                f"tasks.{task}.files.{split}: {tables[0].name} and {table.name} do not both have the column "
                f"{lacking[0]!r}; give them the same columns"
            )
    joined = {
        column: [value for table in tables for value in table.column(column, "")] for column in tables[0].names
    }
    return SourceTable(joined, name, files, counts)


def _file(task: str, split: str, path: Path) -> Any:
    """A file's columns, or the Dataset that a parquet file is."""
    setting = f"tasks.{task}.files.{split} is {str(path)!r}"
    if not path.is_file():
        where = "" if path.is_absolute() else f" in {str(Path.cwd())!r}"
        raise AvilError(f"{setting}, but there is no such file{where}; check the path")
    if path.suffix not in KINDS:
        raise AvilError(f"{setting}, but its name must end in {', '.join(KINDS)}")
    try:
        if path.suffix in text_files.DELIMITERS:
            return text_files.read_csv(path)
        if path.suffix in text_files.JSON_LINES:
            return text_files.read_json(path)
        return _parquet(path)
    except OSError as error:
        raise AvilError(f"{setting}, but it cannot be read: {reason(error)}; check the file") from error


def _parquet(path: Path) -> Any:
    import datasets
    from pyarrow import parquet

    try:
        rows = datasets.Dataset(parquet.read_table(path))  # which knows the classes that datasets wrote into it
    except Exception as error:  # of all kinds, by what the file says about its columns
        raise AvilError(f"{path} cannot be read as parquet: {_said(error)}; write it again") from error
    if len(rows) == 0:
        raise AvilError(f"{path} has no row; fill it")
    return rows


def _data_set(task: str, config: TextTaskConfig, splits: Sequence[str]) -> dict[str, SourceTable]:
    import datasets

    given = str(config.dataset)
    setting, source = f"tasks.{task}.dataset is {given!r}", given.removeprefix(HUB)
    if not given.startswith(HUB):
        if not Path(given).is_dir():
            raise AvilError(f"{setting}, but there is no such folder; write {HUB}OWNER/NAME to fetch a dataset")
        _require_own_files(Path(given), setting)
    tables = {}
    for split in splits:
        rows_of = getattr(config.splits or SplitNames(), split)
        if rows_of is None:
            continue
        try:
            with quiet_datasets():
                rows = datasets.load_dataset(source, config.subset, split=rows_of)
        except Exception as error:  # whatever a hub, a network or a reader raises
            advice = hub_advice(error, otherwise="check its name, its subset and its splits")
            raise AvilError(
                f"{setting}, whose split {rows_of!r} cannot be loaded: {_said(error)}; {advice}"
            ) from error
        if len(rows) == 0:
            raise AvilError(f"{setting}, whose split {rows_of!r} has no row; name another")
        name = "/".join(part for part in (source, config.subset) if part)
        tables[split] = SourceTable(rows, f"{name}, {rows_of}")
    return tables


def _require_own_files(folder: Path, setting: str) -> None:
    """Refuse a folder whose README sends datasets to files elsewhere, on a web site, say."""
    readme = folder / "README.md"
    if not readme.is_file():
        return
    _, _, rest = readme.read_text(encoding="utf-8", errors="replace").partition("---")
    try:
        front = parse(rest.partition("\n---")[0])
    except NoYaml as error:
        raise AvilError(
            f"{setting}, whose README.md does not begin with YAML: {_said(error)}; correct it, or take it out"
        ) from error
    for text in _texts_in(front.get("configs") if isinstance(front, dict) else None):
        if "://" in text or ".." in Path(text).parts or Path(text).is_absolute():
            raise AvilError(f"{setting}, whose README.md names {text!r}, which is not within it; take it out")


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(inner)


def _said(error: BaseException) -> str:
    """What went wrong at the bottom, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return reason(error)[:300]
