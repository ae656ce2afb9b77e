"""Where an encoder is looked for."""

import sys
from pathlib import Path

import pytest

from avil_fast.errors import AvilError
from avil_fast.tasks.text.model_path import resolve


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a model in it, which must not be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site")
    root = tmp_path / "site" / "some_model"
    (root / "model").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    (root / "model" / "config.json").write_text("{}", encoding="utf-8")
    return root


def test_a_folder_comes_before_a_package_and_nothing_is_fetched(package: Path) -> None:
    assert resolve("some_model/model") == (str(package / "model"), False)
    assert "some_model" not in sys.modules
    local = Path("some_model/model")
    local.mkdir(parents=True)
    (local / "config.json").write_text("{}", encoding="utf-8")
    assert resolve("some_model/model") == ("some_model/model", False)
    assert resolve(str(package / "model")) == (str(package / "model"), False)


def test_only_a_name_with_hub_may_be_fetched(package: Path) -> None:
    assert resolve("hub:owner/name") == ("owner/name", True)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("other_model/model", "no installed package is called other_model; check it, write hub:"),
        ("models/nothere", "no such folder in '/"),
        ("nothere", "no such folder in '/"),
        ("some_model/none", "some_model has no folder 'none'"),
        ("some_model", "holds no config.json"),
        ("some_model/../some_model/model", "no such folder"),
        ("/nowhere/model", "no such folder"),
        ("owner-name/model", "hub:OWNER/NAME"),
        ("", "config.json"),
    ],
)
def test_a_path_that_leads_nowhere_is_one_sentence(package: Path, path: str, problem: str) -> None:
    with pytest.raises(AvilError, match=problem) as caught:
        resolve(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["models/nothere", "other_model/model", "nothere"])
def test_nobody_is_told_to_install_what_a_path_begins_with(package: Path, path: str) -> None:
    with pytest.raises(AvilError) as caught:
        resolve(path)
    assert "pip" not in str(caught.value)
