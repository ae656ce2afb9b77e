"""How many cases: a few by default, all with `--fuzz`; and two checkpoints that may be damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from avil_fast.checkpoint.folder import Folder
from tests.checkpoint.conftest import unsynced  # noqa: F401  # here, too, nothing waits for the disk
from tests.checkpoint.runs import fit
from tests.fuzz.saved import SHORT

Cases = Callable[[int, int], int]
"""Of a few and of all, which it is to be."""


@pytest.fixture(scope="session")
def cases(pytestconfig: pytest.Config) -> Cases:
    return lambda few, all_: all_ if pytestconfig.getoption("--fuzz") else few


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their folder; the run was in its second round."""
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    fit(folder, **SHORT)
    every = Folder(folder / "checkpoints").all()
    middle = 3 * len(every) // 4
    for path in every[:middle] + every[middle + 2 :]:
        shutil.rmtree(path)
    return folder / "checkpoints"


@pytest.fixture
def newest(checkpoints: Path, tmp_path: Path) -> Path:
    """The newer one, in a copy that may be damaged."""
    return Folder(Path(shutil.copytree(checkpoints, tmp_path / "run" / "checkpoints"))).all()[-1]
