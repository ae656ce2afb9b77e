"""Nested settings: merging them, dotted names, and a sentence for what is wrong with them."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

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
    for section in sections:
        inner = settings.setdefault(section, {})
        if not isinstance(inner, dict):
            before = name[: name.index(f"{section}.") + len(section)]
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
    """Refuse bounds whose first is not below the second; None means no bounds.

    Raises:
        ValueError: names the setting.
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
    problem = _problem(error)
    loc = [str(part) for part in problem["loc"]]
    name = _without_tags(loc, names, problem["type"] == "extra_forbidden")
    match problem["type"]:
        case "extra_forbidden" if name in names:
            section = name.rpartition(".")[0]
            kind = "source" if f"{section}.source" in names else "name"
            return f"{where}: {name} does not go with this {section}.{kind}; leave it out, or set another {kind}"
        case "extra_forbidden":
            return unknown_setting(name, names, where)
        case "missing" if isinstance(problem["loc"][-1], str):
            return f"{where}: {name} is missing; set it"
        case "model_type" | "model_attributes_type" | "dict_type":
            value = shown(problem["input"])
            return f"{where}: {name} is {value}, but has settings of its own; write {name}: {{...: ...}}"
        case "value_error":
            said = str(problem["ctx"]["error"])
            return f"{where}: {said if said.startswith(name) else f'{name}: {said}'}"
        case _:
            more = f" ({len(error.errors()) - 1} more problems)" if len(error.errors()) > 1 else ""
            message = problem["msg"][0].lower() + problem["msg"][1:]
            return f"{where}: {name} is {shown(problem['input'])}, but {message}{more}"


def _problem(error: ValidationError) -> ErrorDetails:
    """The first; of those with the same setting, one for each kind that it may have, one in our own words."""
    first, *others = error.errors()
    same = (other for other in others if other["loc"][:1] == first["loc"][:1] and other["type"] == "value_error")
    return first if first["type"] == "value_error" else next(same, first)


def explain_options(error: ValidationError, method: str, options: type[BaseModel]) -> str:
    """The first problem with a method's own settings, in one sentence."""
    problem = error.errors()[0]
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        known = ", ".join(f"options.{own}" for own in options.model_fields)
        return f"options.{name} is no setting of method {method}, which has {known or 'none'}; leave it out"
    return f"options.{name} is {shown(problem['input'])}, but {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _without_tags(loc: list[str], names: list[str], unknown: bool) -> str:
    """The dotted name of a location; pydantic puts the tag or type of a union's member in between.

    Args:
        unknown: the last part is no known setting, and no tag either.
    """
    name = loc[0] if loc else ""
    if f"{name}.*" in names:
        named = loc[1:2] == ["texts"]  # the tag, which could pass for the name of a task
        loc, names = [name, *loc[2:]], [other for other in names if (".*" in other) == named]
    for i, part in enumerate(loc[1:], 1):
        longer = f"{name}.{part}"
        if is_known(longer, names) or (unknown and i == len(loc) - 1 and _has_fields(name, names)):
            name = longer
    return name


def _has_fields(name: str, names: list[str]) -> bool:
    depth = name.count(".") + 1
    above = (other.split(".")[:depth] for other in names if other.count(".") >= depth)
    return is_known(name, [".".join(parts) for parts in above])
