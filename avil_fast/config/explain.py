"""A sentence for what is wrong with settings: which one, its value, and what it should be."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from avil_fast.config.settings import is_known, shown

COMMAND_LINE = "the command line"

ALIASES = {
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "betas": "optimizer.betas",
    "adam_beta1": "optimizer.betas",
    "adam_beta2": "optimizer.betas",
    "adam_epsilon": "optimizer.eps",
    "eps": "optimizer.eps",
    "max_grad_norm": "optimizer.clip_norm",
    "gradient_clipping": "optimizer.clip_norm",
    "momentum": "optimizer.momentum",
    "optim": "optimizer.name",
    "num_train_epochs": "rounds",
    "num_epochs": "rounds",
    "epochs": "rounds",
    "max_steps": "steps_per_task",
    "per_device_train_batch_size": "batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "train_batch_size": "batch_size",
    "dataloader_num_workers": "workers",
    "num_workers": "workers",
    "overwrite_output_dir": "overwrite",
    "save_steps": "checkpoints.minutes",
    "save_strategy": "checkpoints.minutes",
    "save_total_limit": "checkpoints.keep",
    "report_to": "log",
    "bf16": "model.dtype",
    "gradient_checkpointing": "model.gradient_checkpointing",
    "max_length": "model.max_length",
    "max_seq_length": "model.max_length",
    "model_name_or_path": "model.path",
    "torch_compile": "model.compile",
}
"""What users of other trainers, transformers' above all, call a setting, and what it is called here."""


def unknown_setting(name: str, names: list[str], where: str) -> str:
    """A sentence that there is no setting of this name, with the nearest one of `names`, if one is near."""
    near = _alias(name, names) or _nearest(name, names)
    hint = f"did you mean {near}?" if near else "avil-fast schema lists all settings"
    return f"{where}: unknown setting {name}; {hint}"


def _alias(name: str, names: list[str]) -> str | None:
    """The setting that other trainers call so: that of the section that the name is in, if it has one."""
    section, _, last = name.rpartition(".")
    meant = ALIASES.get(last, "")
    of_section = f"{section}.{meant.rpartition('.')[2]}"
    if section and of_section in names:
        return of_section
    return meant if meant in names and not is_known(section, names) else None


def _nearest(name: str, names: list[str]) -> str | None:
    """The name that is spelled alike, or whose last part is."""
    if near := difflib.get_close_matches(name, names, n=1, cutoff=0.7):
        return near[0]
    lasts = [own.rpartition(".")[2] for own in names]
    near = difflib.get_close_matches(name.rpartition(".")[2], lasts, n=1, cutoff=0.7)
    return names[lasts.index(near[0])] if near else None


def explain(error: ValidationError, where: str, names: list[str], overridden: Collection[str] = ()) -> str:
    """The first problem in one sentence: which setting, its value, what it should be.

    Args:
        where: the settings are from.
        overridden: names of those that are from the command line instead.
    """
    problem = _problem(error)
    loc = [str(part) for part in problem["loc"]]
    name = _without_tags(loc, names, problem["type"] == "extra_forbidden")
    said = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else ""
    subject = said.partition(" ")[0] if said.partition(" ")[0] in names else name
    if any(subject == own or subject.startswith(f"{own}.") for own in overridden):
        where = COMMAND_LINE
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
            value = problem["input"]
            first = next((key for key in ("path", "name") if f"{name}.{key}" in names), None)
            own = f"{first}: {value}" if first and isinstance(value, str) else "...: ..."
            return f"{where}: {name} is {shown(value)}, but has settings of its own; write {name}: {{{own}}}"
        case "value_error":
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
