"""Nested settings: merging them, and their dotted names."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from avil_fast.errors import AvilError


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, mapping by mapping."""
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested settings; an empty section is a value."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def assign(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted name: assign(s, "alpha.lr", 0.1) is s["alpha"]["lr"] = 0.1."""
    *sections, last = name.split(".")
    for depth, section in enumerate(sections, 1):
        inner = settings.setdefault(section, {})
        if not isinstance(inner, dict):
            before = ".".join(sections[:depth])
            raise AvilError(
                f"{name} cannot be set, because {before} is {shown(inner)} and not a section; set all of it, as "
                f"in '{before}={{{last}: {shown(value)}, ...}}'"
            )
        settings = inner
    settings[last] = value


class _Short(reprlib.Repr):
    """At most some hundred characters of values of any size: aliases in YAML make exponentially large ones."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 200

    def repr_int(self, value: int, level: int) -> str:
        digits = value.bit_length() * 0.30103  # Python writes out no more than 4300
        return repr(value) if digits < self.maxother else f"<a number of {digits:.0f} digits>"


shown = _Short().repr
"""A value, for people."""


def require_ordered(name: str, bounds: tuple[float, float] | None) -> None:
    """Refuse bounds whose first is not below the second.

    Raises:
        ValueError: names the setting and its value.
    """
    if bounds is not None and bounds[0] >= bounds[1]:
        raise ValueError(f"{name} is {list(bounds)}, but the first must be below the second")


def known_names(model: type[BaseModel]) -> list[str]:
    """Every dotted name that a model knows, sections included."""
    return list(dict.fromkeys(_names(model, "")))


def is_known(name: str, names: list[str]) -> bool:
    """Whether a dotted name is among those of `known_names`, where * stands for any one part."""
    parts = name.split(".")
    return name in names or any(
        len(parts) == len(known := other.split("."))
        and all(k in ("*", p) for k, p in zip(known, parts, strict=True))
        for other in names
        if "*" in other
    )


def _names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        yield from _of_type(field.annotation, f"{prefix}{name}.")
        if get_origin(field.annotation) is dict:
            yield f"{prefix}{name}.*"
    extra = get_type_hints(model).get("__pydantic_extra__") if model.model_config.get("extra") == "allow" else None
    if extra is not None:
        yield f"{prefix}*"
        yield from _of_type(get_args(extra)[1], f"{prefix}*.")


def _of_type(kind: Any, prefix: str) -> Iterator[str]:
    """The names of a section, or of each in a union of some."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from _names(kind, prefix)
    elif get_origin(kind) is not None:
        for inner in get_args(kind):
            yield from _of_type(inner, prefix)
