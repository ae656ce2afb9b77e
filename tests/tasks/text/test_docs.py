"""What the pages and the example configs say is so."""

import re
from pathlib import Path

import pytest
import yaml

from avil_fast.config import from_settings, load
from avil_fast.config.text_tasks import METRICS, TextTaskConfig, TextTasksConfig

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_on_a_page_is_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        assert from_settings(yaml.safe_load(block)).warnings() == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#:]+)\)", prose):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configs_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"configs/[\w./-]+", page.read_text(encoding="utf-8")):
        assert (ROOT / name.rstrip(".")).exists(), f"{page.name} names {name}"


def test_the_page_of_settings_names_all_of_them() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    for name in TextTaskConfig.model_fields:
        assert f"`{name}" in text or f"`columns.{name}" in text or f"`kind: {name}" in text, name
    for metric in {metric for names in METRICS.values() for metric in names}:
        assert f"`{metric}`" in text, metric


def test_twenty_lines_are_enough() -> None:
    (block, *_) = blocks(ROOT / "docs" / "tasks.md", "yaml")
    assert len(block.splitlines()) <= 20


@pytest.mark.parametrize("name", ["sentiment", "pairs", "language_model", "lora", "in_context"])
def test_an_example_has_a_page(name: str) -> None:
    config = load(ROOT / "configs" / f"{name}.yaml")
    assert isinstance(config.tasks, TextTasksConfig)
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "examples").glob("*.md"))
    assert f"configs/{name}.yaml" in pages
