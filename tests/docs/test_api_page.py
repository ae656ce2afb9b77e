"""The page of the Python face names what the package exports, and all of it."""

import importlib
import re

import avil_fast
from tests.docs.blocks import ROOT

LISTED = re.findall(r"^<!-- api: (\S+) -->$", (ROOT / "docs/reference/api.md").read_text(encoding="utf-8"), re.M)


def test_what_the_page_lists_is_imported_from_the_package() -> None:
    for listed in LISTED:
        module, _, name = listed.rpartition(".")
        assert getattr(avil_fast, name) is getattr(importlib.import_module(module), name)


def test_what_the_package_exports_is_on_the_page() -> None:
    assert sorted(listed.rpartition(".")[2] for listed in LISTED) == sorted(avil_fast.__all__)
