"""Settings of every kind are taken or refused in one sentence, and those that are taken can be written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avil_fast.config import Config, dump, from_settings
from avil_fast.run.storage import require_free
from tests.fuzz.conftest import Cases
from tests.fuzz.ending import contents, ends, require_sentence
from tests.fuzz.settings_values import Settings

AS_IT_SAYS, ODDLY = (Settings(Config.model_json_schema(), odd).drawn() for odd in (False, True))
HOW = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tried(count: int, drawn: st.SearchStrategy[Any], action: Callable[[Any], Any]) -> None:
    """So many cases end well or with a sentence, some of them in either way, and none leaves a file."""
    before, endings = contents(Path.cwd()), Counter[str]()

    @settings(HOW, max_examples=count)
    @given(drawn)
    def case(value: Any) -> None:
        said = ends(lambda: action(value))
        endings["taken" if said is None else "refused"] += 1

    case()
    assert contents(Path.cwd()) == before
    assert endings["taken"]
    assert endings["refused"]


def used(config: Config) -> None:
    """What every verb does with settings before it reads data."""
    assert from_settings(yaml.safe_load(dump(config))) == config
    for warning in config.warnings():
        require_sentence(warning)
    require_free(config, None)


def test_settings_as_the_schema_says(cases: Cases) -> None:
    tried(cases(50, 800), AS_IT_SAYS, lambda given: used(from_settings(given)))


def test_settings_with_something_odd_in_them(cases: Cases) -> None:
    tried(cases(80, 1200), ODDLY, lambda given: used(from_settings(given)))
