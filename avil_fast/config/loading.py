"""Settings from YAML files, overrides and dotted names, checked; and back into YAML.

A value is taken from the first of: an override, the YAML file, the preset, the field's default. A file's run has a
folder of its own name by default.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from avil_fast.config.explain import COMMAND_LINE, explain, unknown_setting
from avil_fast.config.presets import PRESETS
from avil_fast.config.run import Config
from avil_fast.config.settings import assign, is_known, known_names, merge
from avil_fast.config.text_tasks import TextTasksConfig
from avil_fast.config.train import TrainConfig
from avil_fast.errors import AvilError, reason
from avil_fast.files.yaml_text import NoYaml, parse, to_yaml

AnyConfig = TypeVar("AnyConfig", bound=TrainConfig)


def load(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a run's YAML file (None: the embedded default) and apply `key.sub=value` overrides.

    Raises:
        AvilError: the file is missing, empty or not YAML, a setting is unknown or has a wrong value, or tasks on
            texts have no target.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        settings = {"output_dir": f"runs/{path.stem}"} | _read(path)
    where = str(path) if path else "the settings"
    overridden = []
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            hint = "a file goes before all settings" if os.path.isfile(override) else "write it as key=value"
            raise AvilError(f"{override!r} is not a setting; {hint}, e.g. run.yaml rounds=10")
        names = known_names(Config)
        if not is_known(name.strip(), names):
            raise AvilError(unknown_setting(name.strip(), names, COMMAND_LINE))
        try:
            value = parse(text)
        except NoYaml as error:
            raise AvilError(
                f"the value of {name.strip()} in {override!r} is not valid YAML: {error}; put it in quotes"
            ) from error
        _require_task(settings, name.strip(), f"{path} has" if path else "the settings have")
        assign(settings, name.strip(), value)
        overridden.append(name.strip())
    config = _checked(Config, settings, where, overridden)
    if isinstance(config.tasks, TextTasksConfig) and "target" not in settings:
        known = ", ".join(config.tasks.by_name) or "its tasks"
        raise AvilError(f"{where}: target is missing; name one of {known}")
    return config


def _require_task(settings: Mapping[str, Any], name: str, they_have: str) -> None:
    """Refuse an override of a task that is not there, unless it brings data, which makes a task of it.

    Args:
        they_have: where the settings are from, and the verb, for the message.
    """
    section, _, rest = name.partition(".")
    task, _, setting = rest.partition(".")
    tasks = settings.get("tasks")
    named = (
        {key for key, value in tasks.items() if isinstance(value, Mapping)} if isinstance(tasks, Mapping) else {}
    )
    if section != "tasks" or not named or task in named or not setting or setting.startswith(("files", "dataset")):
        return
    near = difflib.get_close_matches(task, named, n=1)
    hint = f"did you mean tasks.{near[0]}.{setting}?" if near else f"give it its data with {section}.{task}.files"
    raise AvilError(f"{name}: {they_have} no task {task!r}, but {', '.join(sorted(named))}; {hint}")


def from_settings(settings: Mapping[str, Any], where: str = "the settings") -> Config:
    """Check nested settings, with the preset that they name underneath.

    Raises:
        AvilError: a setting is unknown or has a wrong value; the nearest known name is given.
    """
    return _checked(Config, settings, where)


def from_dotted(settings: Mapping[str, Any], where: str = "fit()") -> TrainConfig:
    """Check settings given with dotted names, e.g. {"alpha.lr": 0.1}; sections may also be mappings.

    Args:
        where: they are given, for messages.
    """
    nested: dict[str, Any] = {}
    names, of_a_file = known_names(TrainConfig), known_names(Config)
    for name, value in settings.items():
        if is_known(name, of_a_file) and not is_known(name, names):
            raise AvilError(
                f"{where}: {name} is a setting of a config file; leave it out, and pass model and tasks themselves"
            )
        if not is_known(name, names):
            raise AvilError(unknown_setting(name, names, where))
        one: dict[str, Any] = {}
        assign(one, name, value)
        nested = merge(nested, one)
    return _checked(TrainConfig, nested, where)


def dump(config: TrainConfig) -> str:
    """The resolved configuration as YAML, every setting spelled out."""
    return to_yaml(config.model_dump(mode="json"))


def _checked(
    kind: type[AnyConfig], settings: Mapping[str, Any], where: str, overridden: Collection[str] = ()
) -> AnyConfig:
    preset = settings.get("preset", "default")
    below = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
    try:
        return kind.model_validate(merge(below, settings))
    except ValidationError as error:
        raise AvilError(explain(error, where, known_names(kind), overridden)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AvilError(f"the config {str(path)!r} cannot be read: {reason(error)}; check the path") from error
    except UnicodeDecodeError as error:
        raise AvilError(f"the config {str(path)!r} is not UTF-8 text; save it as such") from error
    except NoYaml as error:
        raise AvilError(f"the config {str(path)!r} is not valid YAML: {error}; correct it there") from error
    if settings is None:
        raise AvilError(
            f"the config {str(path)!r} is empty; put settings into it, or leave it out for the bundled digits"
        )
    if not isinstance(settings, dict):
        raise AvilError(f"the config {str(path)!r} holds a {type(settings).__name__}, but must hold settings")
    return settings
