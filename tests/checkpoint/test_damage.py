"""What befalls checkpoints on disk: each damaged file is named, and the checkpoint before it is used."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.inspect import inspect
from avil_fast.checkpoint.manifest import Manifest
from avil_fast.checkpoint.writing import write
from avil_fast.errors import AvilError
from tests.checkpoint.runs import EVERY_POINT, fit, found

FILES = ("manifest.json", "own-00000.safetensors", "rank-00000.safetensors", "best-00000.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that stopped in the middle, and what it comes to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    expected = found(fit(folder, **EVERY_POINT))
    every = Folder(folder / "checkpoints").all()
    for path in every[:20] + every[22:]:
        shutil.rmtree(path)
    (folder / "summary.json").unlink()
    return folder, expected


@pytest.fixture
def run(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole[0], tmp_path / "run"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path, where: float, bit: int = 3) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "first byte": lambda path: flip(path, 0),
    "somewhere": lambda path: flip(path, 0.4),
    "last byte": lambda path: flip(path, 1.0, 0),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_used(
    name: str, damage: str, run: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    _, newest = Folder(run / "checkpoints").all()
    DAMAGE[damage](newest / name)
    if (name, damage) != ("manifest.json", "gone"):  # without one it is no checkpoint at all
        with pytest.raises(AvilError, match=f"{newest.name}/{name}.*; name the checkpoint before it, or"):
            fit(None, resume=newest)
        with pytest.warns(UserWarning, match=f"{newest.name}/{name}.*; trying the checkpoint before it"):
            result = fit(run, resume="auto")
    else:
        with pytest.raises(AvilError, match="is no checkpoint and holds none; name a folder such as"):
            fit(None, resume=newest)
        result = fit(run, resume="auto")
    assert found(result) == whole[1]
    assert Folder(run / "checkpoints").all()[-1].name == "checkpoint-000023"


def test_every_bit_of_a_manifest_counts(run: Path) -> None:
    newest = Folder(run / "checkpoints").all()[-1]
    path = newest / "manifest.json"
    content = path.read_bytes()
    for byte in range(0, len(content), 11):
        path.write_bytes(content[:byte] + bytes([content[byte] ^ 1 << byte % 8]) + content[byte + 1 :])
        with pytest.raises(AvilError, match=r"manifest\.json' is damaged"):
            inspect(newest)


def test_where_none_is_whole_auto_does_not_start_afresh(run: Path) -> None:
    for path in Folder(run / "checkpoints").all():
        cut(path / "rank-00000.safetensors")
    with (
        pytest.warns(UserWarning, match="trying the checkpoint before it"),
        pytest.raises(AvilError, match=r"no checkpoint is whole: .*rank-00000"),
    ):
        fit(run, resume="auto")
    assert len(Folder(run / "checkpoints").all()) == 2


def test_neighbours_share_no_file(tmp_path: Path) -> None:
    fit(tmp_path / "run", **EVERY_POINT)
    files = [path / "best-00000.safetensors" for path in Folder(tmp_path / "run" / "checkpoints").all()]
    inodes = [file.stat().st_ino for file in files if file.exists()]
    assert all(one != other for one, other in itertools.pairwise(inodes))
    assert len(set(inodes)) < len(inodes) / 2  # but those that are not neighbours do


def test_damage_is_found_where_no_rank_has_to_read(run: Path) -> None:
    newest = Folder(run / "checkpoints").all()[-1]
    manifest = Manifest.read(newest)
    manifest.files["more.safetensors"] = write(newest / "more.safetensors", [])
    manifest.write(newest)
    fit(None, resume=newest)
    flip(newest / "more.safetensors", 0.9)
    with pytest.raises(AvilError, match=r"more\.safetensors' is damaged"):
        fit(None, resume=newest)
