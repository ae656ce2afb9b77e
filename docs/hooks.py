"""What mkdocs does beside reading the pages, so that these stay plain Markdown.

README.md and a few others become pages, links to the repository's other files lead to copies of them on the
site, and a comment `<!-- api: avil_fast.api.fit -->` becomes the signature and docstring of that name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the repository that are pages, and under what name."""

_LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)#:\s]+)(?P<after>(?:#[^)\s]*)?\))")
_API = re.compile(r"^<!-- api: (\S+) -->$", re.M)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/, and every file that a page links to there."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text("utf-8")))
    for page in list(files.documentation_pages()):
        for match in _LINK.finditer(page.content_string):
            path = _in_repository(page.src_uri, match["target"])
            if not path.startswith("docs/") and path not in PAGES and (ROOT / path).is_file():
                name = _name(path)
                if files.get_file_from_path(name) is None:
                    files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are on the site, and what the code says of itself."""

    def moved(match: re.Match[str]) -> str:
        path = _in_repository(page.file.src_uri, match["target"])
        if path.startswith("docs/"):
            path = path.removeprefix("docs/")
        elif path in PAGES or (ROOT / path).is_file():
            path = PAGES.get(path) or _name(path)
        else:
            return match[0]
        folder = posixpath.dirname(page.file.src_uri)
        return match["before"] + posixpath.relpath(path, folder or ".") + match["after"]

    return _API.sub(r"::: \1", _LINK.sub(moved, markdown))


def _in_repository(page: str, target: str) -> str:
    """The path from the repository's root to what a page links to; `page` is a path on the site."""
    of_root = {name: source for source, name in PAGES.items()}
    folder = posixpath.dirname(of_root.get(page, f"docs/{page}"))
    return posixpath.normpath(posixpath.join(folder, target))


def _name(path: str) -> str:
    """Where a copy of a file of the repository lies on the site: as text, which a browser shows."""
    return f"files/{path}.txt"
