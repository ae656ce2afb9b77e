"""Writes docs/reference/settings.md: every setting of a run, its default and its text.

`python docs/settings_page.py` after a setting has changed; a test compares the page with what this makes. The
texts are the docstrings of the settings' fields.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from avil_fast.config import Config

PAGE = Path(__file__).parent / "reference" / "settings.md"

HEAD = """\
<!-- made by python docs/settings_page.py -->
# All settings

Settings go into a run's file, or after it as `key=value`. `fit` takes those of how to train, with their dotted
names as keys. `avil-fast schema` prints the same as a JSON schema. A preset lies between a default here and what
the file says.

| preset | what it sets |
|---|---|
"""


def rendered() -> str:
    """The page."""
    from avil_fast.config.presets import PRESETS

    lines = [HEAD.rstrip()]
    lines += [f"| `{name}` | {_preset(settings) or 'nothing'} |" for name, settings in PRESETS.items()]
    lines += ["", "## The run", "", *_table(Config, "")]
    for title, (prefix, section) in {t: (p, s) for t, p, s in _sections(Config, "")}.items():
        lines += ["", f"## {title}", "", _text(section.__doc__), "", *_table(section, prefix)]
    return "\n".join(lines) + "\n"


def _preset(settings: dict[str, Any], prefix: str = "") -> str:
    """A preset's settings, dotted."""
    found = []
    for name, value in settings.items():
        inner = isinstance(value, dict)
        found.append(_preset(value, f"{prefix}{name}.") if inner else f"`{prefix}{name}: {_value(value)}`")
    return ", ".join(found)


def _sections(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, type[BaseModel]]]:
    """Title, prefix and model of every section below one, those of a union one after the other."""
    for name, field in model.model_fields.items():
        choices = _models(field.annotation)
        for choice in choices:
            tag = next((c for c in ("name", "source") if len(choices) > 1 and c in choice.model_fields), None)
            title = f"{prefix}{name}" + (f", {tag}: {choice.model_fields[tag].default}" if tag else "")
            yield title, f"{prefix}{name}.", choice
            yield from _sections(choice, f"{prefix}{name}.")
    if model.model_config.get("extra") == "allow":
        (inner,) = _models(get_args(get_type_hints(model)["__pydantic_extra__"])[1])
        name = f"{prefix.rstrip('.')}.NAME"
        yield name, f"{name}.", inner
        yield from _sections(inner, f"{name}.")


def _models(kind: Any) -> list[type[BaseModel]]:
    """The sections that a field's type is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    if get_origin(kind) in (Union, types.UnionType, Annotated):
        return [model for inner in get_args(kind) for model in _models(inner)]
    return []


def _table(model: type[BaseModel], prefix: str) -> list[str]:
    """The settings of a section that are no sections themselves."""
    properties = model.model_json_schema()["properties"]
    rows = []
    for name, field in model.model_fields.items():
        of_sections = _models(field.annotation)
        if of_sections and _default(field) not in ("`null`", "needed"):
            continue
        kind = f"[{prefix}{name}](#{_anchor(prefix + name)})" if of_sections else _kind(properties[name])
        by_name = ".NAME" if get_origin(field.annotation) is dict else ""
        rows.append(f"| `{prefix}{name}{by_name}` | {kind} | {_default(field)} | {_text(field.description)} |")
    return ["| setting | takes | default | what it does |", "|---|---|---|---|", *rows] if rows else []


def _anchor(title: str) -> str:
    return "".join(c for c in title.lower() if c.isalnum() or c in "_-")


def _kind(schema: dict[str, Any]) -> str:
    """What a setting takes, in words."""
    if "anyOf" in schema:
        return " or ".join(_kind(inner) for inner in schema["anyOf"] if inner.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{_value(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{_value(schema['const'])}`"
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"a pair of numbers{_range(schema['prefixItems'][0])}"
        case "array":
            inner = _kind(schema.get("items", {}))
            return "a list of " + {"a text": "texts", "a path": "paths"}.get(inner, inner)
        case "integer" | "number" as number:
            return ("a whole number" if number == "integer" else "a number") + _range(schema)
        case "boolean":
            return "`true`, `false`"
        case "string":
            return "a path" if schema.get("format") == "path" else "a text"
    return "a mapping"


def _range(schema: dict[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[key]:g}" for key, word in words.items() if key in schema and abs(schema[key]) < 1e9]
    multiple = [f"a multiple of {schema['multipleOf']:g}"] if "multipleOf" in schema else []
    return "".join(f", {part}" for part in [" ".join(limits), *multiple] if part)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if isinstance(field.default, BaseModel):
        return ""
    return f"`{_value(field.get_default(call_default_factory=True))}`"


def _value(value: Any) -> str:
    """As it stands in a run's file."""
    if isinstance(value, str | Path):
        text = str(value)
        return text if text and text.strip() == text else json.dumps(text)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(rendered(), encoding="utf-8")
