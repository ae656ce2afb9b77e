"""The site builds without a warning, and asks no other host for anything."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

pytest.importorskip("material", reason="mkdocs-material is not installed; pip install -e '.[dev]' brings it")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed; pip install -e '.[dev]' brings it")

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
"""Elements for which a browser fetches what the attribute names; a link's is fetched for some values of rel."""

FETCHED = {"stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "icon", "modulepreload", "manifest"}
STYLE = re.compile(r"url\(\s*['\"]?(?:https?:)?//[^)]*|@import\s+['\"]?(?:https?:)?//\S*")
ELSEWHERE = re.compile(r"^(?:[a-z]+:)?//", re.I)


class Requests(HTMLParser):
    """What a page makes a browser fetch from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.classes |= set((given.get("class") or "").split())
        address = given.get(LOADS.get(tag, ""))
        if tag == "link" and FETCHED & set((given.get("rel") or "").split()):
            address = given.get("href")
        for value in (address, *(part.split()[0] for part in (given.get("srcset") or "").split(",") if part)):
            if value and ELSEWHERE.match(value):
                self.found.append(f"<{tag}> {value}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Without --quiet: it keeps warnings from being counted, and --strict counts them.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr
    return folder


def test_no_page_asks_another_host_for_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        parser = Requests()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found == [], page.name
        assert "mermaid" not in parser.classes, f"{page.name}: the theme would fetch a program to draw diagrams"


def test_no_style_asks_another_host_for_anything(site: Path) -> None:
    for sheet in [*site.rglob("*.css"), *site.rglob("*.svg"), *site.rglob("*.html")]:
        text = sheet.read_text(encoding="utf-8")
        assert STYLE.findall(text) == [], sheet


def test_what_is_written_in_the_code_is_on_the_site(site: Path) -> None:
    text = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for words in ("at most 64", "never learned from", "the merged coefficients", "what to do"):
        assert words in text, words
    assert "::: " not in text
    assert "<!-- api" not in text


def test_files_of_the_repository_are_copied_for_links_to_them(site: Path) -> None:
    assert (site / "files" / "configs" / "sentiment.yaml.txt").read_bytes() == (
        ROOT / "configs" / "sentiment.yaml"
    ).read_bytes()
    assert "files/configs/sentiment.yaml.txt" in (site / "examples" / "sentiment.html").read_text(encoding="utf-8")


def test_every_page_is_in_the_menu(caplog: pytest.LogCaptureFixture) -> None:
    from mkdocs.config import load_config

    with caplog.at_level(logging.WARNING):
        config = load_config(str(ROOT / "mkdocs.yml"))
    listed = set(re.findall(r"[\w/]+\.md", str(config["nav"])))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert there <= listed
    assert listed - there == {"index.md", "contributing.md", "security.md", "changelog.md"}


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<script src="https://example.org/a.js">', 1),
        ('<link rel="stylesheet" href="//example.org/a.css">', 1),
        ('<img srcset="a.png 1x, https://example.org/b.png 2x">', 1),
        ('<link rel="canonical" href="https://example.org/">', 0),
        ('<a href="https://example.org/">', 0),
        ('<script src="assets/a.js">', 0),
    ],
)
def test_a_request_is_told_from_a_link(html: str, count: int) -> None:
    parser = Requests()
    parser.feed(html)
    assert len(parser.found) == count
