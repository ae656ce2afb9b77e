"""The templates of the pages."""

from __future__ import annotations

from pathlib import Path

import jinja2

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals["live"] = None


def template(name: str) -> jinja2.Template:
    """That of `name`.html.j2."""
    return _TEMPLATES.get_template(f"{name}.html.j2")
