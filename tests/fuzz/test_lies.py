"""Checkpoints whose checksums are right, but whose headers and manifests are not what a run writes."""

from __future__ import annotations

import json
import math
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avil_fast.checkpoint.file_format import Record
from avil_fast.checkpoint.inspect import inspect
from avil_fast.checkpoint.manifest import Manifest
from tests.checkpoint.runs import fit
from tests.checkpoint.test_damage import FILES
from tests.fuzz.conftest import Cases
from tests.fuzz.ending import ends
from tests.fuzz.saved import SHORT, told

TENSORS = FILES[1:]
Header = dict[str, Any]


def _first(header: Header) -> Header:
    return next(entry for entry in header.values() if entry["data_offsets"][1] > entry["data_offsets"][0])  # type: ignore[no-any-return]


def _changed(**changes: Any) -> Callable[[Header], Any]:
    def lie(header: Header) -> Header:
        _first(header).update(changes)
        return header

    return lie


LIES: dict[str, Callable[[Header], Any]] = {
    "a tensor of terabytes": _changed(shape=[2**40]),
    "a tensor of more than there can be": _changed(shape=[2**62, 2**62]),
    "a tensor that ends after terabytes": _changed(data_offsets=[0, 2**43]),
    "terabytes from shape to end": _changed(shape=[2**41], data_offsets=[0, 2**43]),
    "a tensor before the file": _changed(data_offsets=[-(2**20), 4]),
    "a tensor that ends before it begins": _changed(data_offsets=[400, 0]),
    "a negative shape": _changed(shape=[-1, -1]),
    "a shape of fractions": _changed(shape=[1.5]),
    "a shape of words": _changed(shape=["1"]),
    "a shape that is none": _changed(shape=None),
    "one offset": _changed(data_offsets=[0]),
    "offsets that are true": _changed(data_offsets=[False, True]),
    "an unknown type": _changed(dtype="F4"),
    "a type that is none": _changed(dtype=[]),
    "no type": lambda header: {name: {} for name in header},
    "no tensor": lambda header: {},
    "a list": lambda header: [*header],
    "null": lambda header: None,
    "tensors that are numbers": lambda header: dict.fromkeys(header, 1),
    "a tensor too few": lambda header: {name: own for name, own in header.items() if own is not _first(header)},
    "names of others": lambda header: {f"{name}s": entry for name, entry in header.items()},
}

ALIKE = {"F32": "I32", "I64": "F64", "U8": "I8"}
SMALL_LIES: dict[str, Callable[[Header], Header]] = {
    "other types": lambda entry: entry | {"dtype": ALIKE.get(entry["dtype"], entry["dtype"])},
    "one dimension": lambda entry: entry | {"shape": [math.prod(entry["shape"])]},
    "more dimensions": lambda entry: entry | {"shape": [1, 1, *entry["shape"]]},
}


def of(names: tuple[str, ...], number: int, cases: Cases) -> list[str]:
    """All, or one of them: for each number another."""
    first = number % len(names)
    return [*names[first:], *names[:first]][: cases(1, len(names))]


def rewrite(newest: Path, name: str, content: bytes) -> None:
    """A file of another content, which the manifest knows."""
    (newest / name).write_bytes(content)
    manifest = Manifest.read(newest)
    manifest.files[name] = Record(len(content), [zlib.crc32(content)])  # all of it is within a block
    manifest.write(newest)


def parts(content: bytes) -> tuple[Header, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies(lie: str, newest: Path, cases: Cases) -> None:
    for name in of(TENSORS, [*LIES].index(lie), cases):
        whole = (newest / name).read_bytes()
        header, data = parts(whole)
        text = json.dumps(LIES[lie](header)).encode()
        rewrite(newest, name, len(text).to_bytes(8, "little") + text + data)
        refused_in_little_memory(newest, name)
        rewrite(newest, name, whole)


@pytest.mark.parametrize("lie", SMALL_LIES)
def test_a_header_that_lies_about_no_size(lie: str, newest: Path) -> None:
    for name in TENSORS:
        header, data = parts((newest / name).read_bytes())
        text = json.dumps({tensor: SMALL_LIES[lie](entry) for tensor, entry in header.items()}).encode()
        rewrite(newest, name, len(text).to_bytes(8, "little") + text + data)
    said = ends(lambda: fit(None, resume=newest, **SHORT))
    assert said is not None
    assert newest.name in said


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**43, 2**64 - 1])
def test_a_length_of_the_header_that_lies(length: int, newest: Path, cases: Cases) -> None:
    for name in of(TENSORS, length, cases):
        whole = (newest / name).read_bytes()
        rewrite(newest, name, length.to_bytes(8, "little") + whole[8:])
        refused_in_little_memory(newest, name)
        rewrite(newest, name, whole)


@pytest.mark.parametrize("text", [b"", b"\xff{}", b"{", b"[" * 100_000, b"\0" * 64, b'{"a": NaN}'], ids=range(6))
def test_a_header_that_is_no_json(text: bytes, newest: Path) -> None:
    for name in TENSORS:
        rewrite(newest, name, len(text).to_bytes(8, "little") + text)
    refused_in_little_memory(newest, TENSORS[0])


def refused_in_little_memory(newest: Path, name: str) -> None:
    tracemalloc.start()
    try:
        ends(lambda: told(inspect(newest)))  # it opens all files, but needs no certain tensors
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
    said = ends(lambda: fit(None, resume=newest, **SHORT))
    assert said is not None, f"{name} passes"
    assert f"{newest.name}/{name}" in said


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no files": lambda content: content | {"files": None},
    "files without sums": lambda content: content | {"files": {name: {"nbytes": 1} for name in content["files"]}},
    "files of terabytes": lambda content: content | {"files": _records(content, nbytes=2**43)},
    "files with a sum too few": lambda content: content | {"files": _records(content, checksums=[])},
    "files elsewhere": lambda content: content | {"files": {f"../{n}": r for n, r in content["files"].items()}},
    "no ranks": lambda content: content | {"ranks": "many"},
    "another format": lambda content: content | {"format": 99},
    "no format": lambda content: {key: value for key, value in content.items() if key != "format"},
    "nothing": lambda content: {},
    "half of it": lambda content: dict([*content.items()][: len(content) // 2]),
}


BLAMED = dict.fromkeys(("files of terabytes", "files with a sum too few"), TENSORS[0])


def _records(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: record | changes for name, record in content["files"].items()}


@pytest.mark.parametrize("name", FORGED)
def test_a_manifest_that_lies(name: str, newest: Path) -> None:
    path = newest / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("checksum")
    forged = FORGED[name](content)
    sum_ = zlib.crc32(json.dumps(forged).encode())
    path.write_text(json.dumps({"checksum": sum_} | forged) + "\n", encoding="utf-8")
    for action in (lambda: inspect(newest), lambda: fit(None, resume=newest, **SHORT)):
        said = ends(lambda action=action: told(action()))  # type: ignore[misc]
        assert said is not None
        assert f"{newest.name}/{BLAMED.get(name, 'manifest.json')}" in said
