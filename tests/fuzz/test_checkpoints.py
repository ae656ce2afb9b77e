"""Checkpoints that something befell are refused with the file's name, and nothing that was saved is lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from avil_fast.checkpoint.inspect import inspect
from tests.checkpoint.runs import fit
from tests.checkpoint.test_damage import FILES
from tests.fuzz.conftest import Cases
from tests.fuzz.damage import flipped
from tests.fuzz.ending import command, contents, ends
from tests.fuzz.saved import SHORT, told

PLACES, FLIPS = 20, 200


def refused(newest: Path, name: str, capsys: pytest.CaptureFixture[str] | None) -> None:
    """Look into a damaged checkpoint and take it up; both name the file and change none."""
    before = contents(newest.parents[2])
    for action in (lambda: inspect(newest), lambda: fit(None, resume=newest, **SHORT)):
        said = ends(lambda action=action: told(action()))  # type: ignore[misc]
        assert said is not None, f"{name} passes"
        assert f"{newest.name}/{name}" in said
    if capsys is not None:
        assert f"{newest.name}/{name}" in str(command(capsys, "inspect", str(newest)))
    assert contents(newest.parents[2]) == before


def places(name: str, size: int, count: int) -> list[int]:
    draw = random.Random(name)
    return [0, size - 1, *(draw.randrange(1, size - 1) for _ in range(count - 2))]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_ends_too_soon(
    name: str, newest: Path, cases: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (newest / name).read_bytes()
    for number, size in enumerate(places(name, len(whole), cases(4, PLACES))):
        (newest / name).write_bytes(whole[:size])
        refused(newest, name, capsys if number % 5 == 0 else None)


@pytest.mark.parametrize("name", FILES)
def test_a_bit_that_is_another(name: str, newest: Path, cases: Cases, capsys: pytest.CaptureFixture[str]) -> None:
    whole, draw = (newest / name).read_bytes(), random.Random(name)
    for number in range(cases(5, FLIPS // len(FILES))):
        (newest / name).write_bytes(flipped(whole, draw))
        refused(newest, name, capsys if number % 10 == 0 else None)
