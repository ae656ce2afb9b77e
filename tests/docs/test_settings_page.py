"""The page of all settings is that of the code."""

from __future__ import annotations

import importlib.util

from avil_fast.config import Config
from avil_fast.config.settings import known_names
from tests.docs.blocks import ROOT

SCRIPT = ROOT / "docs" / "settings_page.py"


def test_the_page_is_made_from_the_code() -> None:
    spec = importlib.util.spec_from_file_location("settings_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    text = made.PAGE.read_text(encoding="utf-8")
    assert text == made.rendered(), "run `python docs/settings_page.py`"
    for name in known_names(Config):
        assert name.replace("*", "NAME") in text, name
