"""A sentence for what is wrong with settings: which one, its value, and what it should be."""

from __future__ import annotations

import difflib

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from avil_fast.config.settings import is_known, shown


def unknown_setting(name: str, names: list[str], where: str) -> str:
    """A sentence that there is no setting of this name, with the nearest one of `names`."""
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
