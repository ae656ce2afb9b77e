"""Rows out of files and data sets, and what is said about files that are broken."""

import json
import os
from pathlib import Path
from typing import Any

import datasets
import pytest

from avil_fast.config.text_tasks import TextTaskConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.text import sources
from avil_fast.tasks.text.tables import SourceTable
from tests.tasks import made_up

ROWS = [
    {"text": "so, so", "label": "None"},
    {"text": 'a "word"\nand a line', "label": "1.0"},
    {"text": "NA", "label": "null"},
]


def read(**settings: Any) -> dict[str, SourceTable]:
    return sources.read("news", TextTaskConfig.model_validate(settings))


def rows(table: SourceTable) -> list[dict[str, Any]]:
    columns = {name: table.column(name, "") for name in table.names}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def refused(**settings: Any) -> str:
    with pytest.raises(AvilError) as caught:
        read(**settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_all_kinds_of_files_give_the_same_rows_and_know_their_lines(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"train.{suffix}"
    if suffix == "parquet":
        datasets.Dataset.from_list(ROWS).to_parquet(path)
    else:
        made_up.write(path, ROWS)
    table = read(files={"train": path})["train"]
    assert rows(table) == ROWS
    where = {"csv": [2, 3, 5], "jsonl": [1, 2, 3], "parquet": [1, 2, 3]}[suffix]
    word = "row" if suffix == "parquet" else "line"
    assert [table.where(row) for row in range(3)] == [f"{path}, {word} {number}" for number in where]


def test_blank_lines_and_a_byte_order_mark_do_not_move_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes("\ufefftext,label\n\na,x\n\n\nb,y\n".encode())
    table = read(files={"train": path})["train"]
    assert rows(table) == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    assert [table.where(row) for row in (0, 1)] == [f"{path}, line 3", f"{path}, line 6"]
    path = tmp_path / "train.jsonl"
    path.write_text('\n{"a": 1}\n\n{"a": 2}\n', encoding="utf-8")
    table = read(files={"train": path})["train"]
    assert [table.where(row) for row in (0, 1)] == [f"{path}, line 2", f"{path}, line 4"]


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    paths = [made_up.write(tmp_path / name, ROWS) for name in ("a.csv", "b.csv")]
    table = read(files={"train": paths})["train"]
    assert rows(table) == ROWS * 2
    assert table.where(3) == f"{paths[1]}, line 2"
    assert table.name == f"{paths[0]}, ..."


def test_a_folder_is_searched_for_the_splits(tmp_path: Path) -> None:
    made_up.write(tmp_path / "train.csv", ROWS)
    made_up.write(tmp_path / "validation.jsonl", ROWS[:1])
    found = read(files=tmp_path)
    assert {split: len(table) for split, table in found.items()} == {"train": 3, "dev": 1}
    made_up.write(tmp_path / "dev.csv", ROWS)
    assert "both dev.csv and validation.jsonl could be dev" in refused(files=tmp_path)


def test_a_data_set_is_loaded_by_name_or_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made_up.write(Path("owner/some/train.jsonl"), ROWS)
    made_up.write(Path("owner/some/test.jsonl"), ROWS[:2])
    found = read(dataset="owner/some", splits={"test": "test[:1]"})
    assert {split: len(table) for split, table in found.items()} == {"train": 3, "test": 1}
    assert found["train"].where(1) == "owner/some, train, row 2"
    assert "split 'nope' cannot be loaded" in refused(dataset="owner/some", splits={"train": "nope"})
    assert "no such folder; write hub:OWNER/NAME to fetch" in refused(dataset="owner/som")


@pytest.mark.parametrize("file", ["https://example.org/train.jsonl", "../train.jsonl", "/etc/train.jsonl"])
def test_a_data_sets_folder_cannot_send_for_files_elsewhere(file: str, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    made_up.write(folder / "train.jsonl", ROWS)
    card = (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {file}\n---\nSome.\n"
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    assert f"whose README.md names {file!r}, which is not within it" in refused(dataset=str(folder))
    (folder / "README.md").write_text(card.replace(file, "train.jsonl"), encoding="utf-8")
    assert len(read(dataset=str(folder))["train"]) == 3


def test_a_hub_is_asked_for_a_data_set_alone_and_never_for_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(*arguments: Any, **options: Any) -> Any:
        asked.append((*arguments, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    read(dataset="hub:nyu-mll/glue", subset="rte", splits={"train": "train", "dev": "validation"})
    assert asked == [("nyu-mll/glue", "rte", {"split": "train"}), ("nyu-mll/glue", "rte", {"split": "validation"})]


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "empty.csv is empty; its first line must name the columns"),
    "header.csv": (b"text,label\n", "header.csv names columns, but has no row"),
    "empty.jsonl": (b"", "empty.jsonl has no row"),
    "latin.csv": ("text,label\na,b\ncliché,b\n".encode("latin-1"), "latin.csv, line 3: byte 0xe9 is not UTF-8"),
    "latin.jsonl": ('{"a": "é"}\n'.encode("latin-1"), "latin.jsonl, line 1: byte 0xe9 is not UTF-8"),
    "utf16.csv": ("text,label\na,b\n".encode("utf-16"), "utf16.csv, line 1: byte 0xff is not UTF-8"),
    "wide.csv": (
        b"text,label\na,b\nso, so,b\n",
        "wide.csv, line 3: there are 3 columns, but the first line",
    ),
    "short.csv": (b"text,label\na,b\nc\n", "short.csv, line 3: there are 1 columns"),
    "index.csv": (b"text,label\n0,a,b\n1,a,b\n", "index.csv, line 2: there are 3 columns"),
    "quote.tsv": (b'text\tlabel\n"a\tb\nc "\td\n', "quote.tsv, line 3: a text in quotes has a line break in it"),
    "blank.jsonl": (b"\n\n", "blank.jsonl has no row"),
    "quote.csv": (b'text,label\n"a,b\nc,d\n', "quote.csv, line 3: unexpected end of data; check its quotes"),
    "twice.csv": (b"text,text\na,b\n", "twice.csv, line 1: two columns are named 'text'"),
    "nul.csv": (b"text,label\na\0,b\n", "nul.csv, line 2: there is a NUL byte"),
    "cut.jsonl": (b'{"text": "a"}\n{"text": "b\n', "cut.jsonl, line 2: this is not JSON"),
    "list.jsonl": (b'{"text": "a"}\n["b"]\n', r"list.jsonl, line 2: there is a list, but must be {column: value}"),
    "deep.jsonl": (b"[" * 100_000 + b"\n", "deep.jsonl, line 1: this is not JSON"),
    "no.parquet": (b"PAR1 and nothing", "no.parquet cannot be read as parquet"),
    "data.xlsx": (b"x", "its name must end in .csv, .tsv"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence_with_file_and_line(name: str, tmp_path: Path) -> None:
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    assert message in refused(files={"train": tmp_path / name})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("nowhere", "tasks.news.files is 'nowhere', but "),
        ("a.csv", "which is a file; write files: {train: a.csv}, or name a folder"),
        (".", "which has no train.csv, train.tsv"),
        ({"train": "nowhere.csv"}, "tasks.news.files.train is 'nowhere.csv', but there is no such file"),
        ({"train": "a.csv", "dev": "."}, "tasks.news.files.dev is '.', but there is no such file"),
    ],
)
def test_what_is_not_there_is_named(
    files: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made_up.write(Path("a.csv"), ROWS)
    assert message in refused(files=files)


def test_a_column_that_is_missing_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    table = read(files={"train": made_up.write(tmp_path / "a.csv", ROWS)})["train"]
    known = r"a\.csv has no column '.*', but 'text', 'label'; set tasks\.news\.columns\.text"
    for name in ("txt", "Text", "text "):
        with pytest.raises(AvilError, match=known + r"='text'\?$"):
            table.column(name, "tasks.news.columns.text")
    with pytest.raises(AvilError, match=known + "$"):
        table.column("what", "tasks.news.columns.text")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_mark_between_columns_is_seen(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text{mark}label\nSome, text{mark}good\n", encoding="utf-8")
    with pytest.raises(AvilError, match=r"line 1: there is one column, .* save the file with ',' between columns"):
        read(files={"train": path})


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    path = made_up.write(tmp_path / "a.csv", ROWS)
    assert len(read(files={"train": path})["train"]) == 3
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    made_up.write(path, ROWS[:1])
    os.utime(path, ns=times)
    assert len(read(files={"train": path})["train"]) == 1


def test_values_of_a_jsonl_file_stay_what_they_are(tmp_path: Path) -> None:
    given = [{"a": "2020-01-01", "b": 1}, {"a": "2020-01-02", "b": 2.5}, {"b": None, "c": {"d": [1]}}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    table = read(files={"train": tmp_path / "x.jsonl"})["train"]
    assert table.column("a", "") == ["2020-01-01", "2020-01-02", None]
    assert table.column("b", "") == [1, 2.5, None]
    assert table.column("c", "") == [None, None, {"d": [1]}]


def test_files_of_a_split_have_the_same_columns(tmp_path: Path) -> None:
    paths = [made_up.write(tmp_path / "a.csv", ROWS), made_up.write(tmp_path / "b.csv", [{"text": "a"}])]
    assert "a.csv and" in (told := refused(files={"train": paths}))
    assert "do not both have the column 'label'" in told


def test_a_dev_set_of_an_auxiliary_is_not_read_if_it_is_not_asked_for(tmp_path: Path) -> None:
    made_up.write(tmp_path / "train.csv", ROWS)
    (tmp_path / "dev.csv").write_bytes(b"broken\n")
    assert list(sources.read("news", TextTaskConfig(files=tmp_path), ("train",))) == ["train"]
