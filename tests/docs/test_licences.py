"""docs/licences.md has every package that an installation brings, with the licence that its metadata tells."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

from tests.docs.blocks import ROOT
from tests.test_house import PROJECT

TABLE = dict(
    re.findall(r"^\| `([\w-]+)` \| [^|]+ \| ([^|]+) \|$", (ROOT / "docs" / "licences.md").read_text("utf-8"), re.M)
)
FAMILIES = {"Apache": r"Apache", "BSD": r"\bBSD", "MIT": r"\bMIT\b", "PSF": r"PSF|Python Software Foundation"}


def test_the_page_lists_all_and_no_others() -> None:
    extras = PROJECT["optional-dependencies"]
    needed = [*PROJECT["dependencies"], *(one for extra, own in extras.items() if extra != "dev" for one in own)]
    assert set(TABLE) == {re.split(r"[\[<>=]", requirement)[0] for requirement in needed}


@pytest.mark.parametrize("package", sorted(TABLE))
def test_the_licence_is_that_of_the_package(package: str) -> None:
    try:
        about = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed")
    licences = [line for line in about.get_all("Classifier") or [] if line.startswith("License")]
    said = " ".join([about.get("License-Expression") or "", (about.get("License") or "")[:60], *licences])
    families = {name for name, pattern in FAMILIES.items() if re.search(pattern, said)}
    assert families & {name for name, pattern in FAMILIES.items() if re.search(pattern, TABLE[package])}, said
