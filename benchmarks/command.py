"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Options of `python -m benchmarks.NAME`, which begin with --json; `doc` is the module's."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    return made


def write(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures, if a path was given."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
