"""What stands in more than one place at the root says the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from avil_fast.config import Config
from avil_fast.settings import known_names

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
DEFINED = {"config.py", "model_config.py", "task_config.py", "presets.py"}
CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "avil_fast").rglob("*.py"))
    if path.relative_to(ROOT / "avil_fast").as_posix() not in DEFINED
)


@pytest.mark.parametrize("name", SETTINGS)
def test_no_setting_has_a_name_that_nothing_reads(name: str) -> None:
    """A name that two sections have counts as read if either is."""
    assert re.search(rf"\.{re.escape(name.rpartition('.')[2])}\b", CODE), f"nothing reads {name}"
