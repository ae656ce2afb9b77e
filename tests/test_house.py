"""What stands in more than one place at the root says the same, and `setup.py` installs all that there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from avil_fast.config import Config
from avil_fast.config.settings import known_names

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["preferred-citation"]["url"].endswith("2405.07769")


def test_the_changelog_begins_with_this_version() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    newest = next(line for line in lines if line.startswith("## "))
    assert newest.removeprefix("## ").split(",")[0] == PROJECT["version"]


SETTINGS = [name for name in known_names(Config) if not name.endswith("*") and not name.startswith("deepspeed.")]
DEFINED = {f"config/{name}.py" for name in ("sections", "train", "run", "model", "pairs", "text_tasks", "presets")}
CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "avil_fast").rglob("*.py"))
    if path.relative_to(ROOT / "avil_fast").as_posix() not in DEFINED
)


@pytest.mark.parametrize("name", SETTINGS)
def test_no_setting_has_a_name_that_nothing_reads(name: str) -> None:
    """A name that two sections have counts as read if either is."""
    assert re.search(rf"\.{re.escape(name.rpartition('.')[2])}\b", CODE), f"nothing reads {name}"


def test_what_is_installed_is_the_whole_package(tmp_path: Path) -> None:
    """An editable install, as the tests run on, finds every folder whether `setup.py` names it or not."""
    clone = tmp_path / "clone"  # without the list of files that an install left in the checkout, which builds obey
    for folder in ("avil_fast", "kernels"):
        shutil.copytree(ROOT / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    installed = {path.relative_to(tmp_path / "lib").as_posix() for path in (tmp_path / "lib").rglob("*.*")}
    for kind in ("*.py", "*.j2", "*.pyi", "py.typed"):
        ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "avil_fast").rglob(kind)}
        kernels = {f"avil_fast/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "kernels").rglob(kind)}
        assert installed >= ours | kernels
    found = subprocess.run(
        [sys.executable, "-c", "import avil_fast.cli, avil_fast.kernels.tile; print(avil_fast.cli.__file__)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "lib")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == str(tmp_path / "lib" / "avil_fast" / "cli.py")


def test_durations_are_of_a_clock_that_does_not_jump() -> None:
    """time.time() goes back when somebody sets the clock; transformers' Trainer counts by it, so ours has to."""
    found = [path.name for path in (ROOT / "avil_fast").rglob("*.py") if "time.time()" in path.read_text("utf-8")]
    assert found == ["trainer.py"]
