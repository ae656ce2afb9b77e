"""Nested settings: merging them, dotted names, and a sentence for what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

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


def assign(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted name: assign(s, "alpha.lr", 0.1) is s["alpha"]["lr"] = 0.1."""
    *sections, last = name.split(".")
    for section in sections:
        inner = settings.setdefault(section, {})
        if not isinstance(inner, dict):
            raise AvilError(f"{name} cannot be set, because {section} is {inner!r} and not a section")
        settings = inner
    settings[last] = value


def require_ordered(name: str, bounds: tuple[float, float] | None) -> None:
    if bounds is not None and bounds[0] >= bounds[1]:
        raise ValueError(f"{name} is {list(bounds)}, but the first must be below the second")


def known_names(model: type[BaseModel]) -> list[str]:
    """Every dotted name that a model knows, sections included."""
    return list(dict.fromkeys(_names(model, "")))


def _names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _names(inner, f"{prefix}{name}.")


def unknown_setting(name: str, names: list[str], where: str) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    by_last_part = difflib.get_close_matches(
        name.rsplit(".", 1)[-1], [n.rsplit(".", 1)[-1] for n in names], n=1, cutoff=0.7
    )
    if not near and by_last_part:
        near = [n for n in names if n.rsplit(".", 1)[-1] == by_last_part[0]][:1]
    hint = f"did you mean {near[0]}?" if near else "avil-fast schema lists all settings"
    return f"{where}: unknown setting {name}; {hint}"


def explain(error: ValidationError, where: str, names: list[str]) -> str:
    """The first problem in one sentence: which setting, its value, what it should be."""
    problem = error.errors()[0]
    loc = [str(part) for part in problem["loc"]]
    name = _without_tags(loc, names)
    match problem["type"]:
        case "extra_forbidden" if name in names:
            section = name.rpartition(".")[0]
            kind = "source" if f"{section}.source" in names else "name"
            return f"{where}: {name} does not go with this {section}.{kind}; leave it out, or set another {kind}"
        case "extra_forbidden":
            return unknown_setting(name, names, where)
        case "missing" if isinstance(problem["loc"][-1], str):
            return f"{where}: {name} is missing; set it"
        case "value_error":
            return f"{where}: {problem['ctx']['error']}"
        case _:
            more = f" ({len(error.errors()) - 1} more problems)" if len(error.errors()) > 1 else ""
            message = problem["msg"][0].lower() + problem["msg"][1:]
            return f"{where}: {name} is {problem['input']!r}, but {message}{more}"


def _without_tags(loc: list[str], names: list[str]) -> str:
    """The dotted name of a location; pydantic puts the tag or type of a union's member in between."""
    name = loc[0] if loc else ""
    for i, part in enumerate(loc[1:], 1):
        longer = f"{name}.{part}"
        if longer in names or (i == len(loc) - 1 and _has_fields(name, names)):
            name = longer
    return name


def _has_fields(name: str, names: list[str]) -> bool:
    return any(other.startswith(name + ".") for other in names)
