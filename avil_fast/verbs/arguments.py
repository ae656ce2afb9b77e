"""Arguments that several verbs take."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from avil_fast.config import Config


def completions(incomplete: str) -> list[str]:
    """Completions that the shell offers: YAML files, and settings with = at their end."""
    from avil_fast.config import Config
    from avil_fast.config.settings import known_names

    files = [str(path) for path in sorted(Path().glob(f"{incomplete}*")) if path.suffix in (".yaml", ".yml")]
    folders = [f"{path}/" for path in sorted(Path().glob(f"{incomplete}*")) if path.is_dir()]
    names = [f"{name}=" for name in known_names(Config) if name.startswith(incomplete) and "*" not in name]
    return [*files, *folders, *names]


Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG] [KEY=VALUE]...",
        help="A YAML file, and settings that override it.",
        autocompletion=completions,
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]
DeepSpeed = Annotated[
    Path | None,
    typer.Option(
        "--deepspeed_config", metavar="FILE", help="DeepSpeed's settings (JSON), with the ZeRO stage to use."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


class Verb(TyperCommand):
    """A verb of the command, which tells whoever writes a setting as an option how settings are written."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            of_settings = any("KEY=VALUE" in str(argument.metavar) for argument in self.params)
            if of_settings and type(error).__name__ == "NoSuchOption":  # whose module is another in each typer
                error.message += f"; settings are written {_as_setting(error.option_name, given)}"  # type: ignore[attr-defined]
            raise


def _as_setting(option: str, arguments: Sequence[str]) -> str:
    """What was given as an option, as a setting: --rounds 3 is rounds=3."""
    name = option.lstrip("-").replace("-", "_")
    for place, argument in enumerate(arguments):
        given, equals, value = argument.partition("=")
        if given == option and equals:
            return f"{name}={value}"
        if given == option and arguments[place + 1 :] and not arguments[place + 1].startswith("-"):
            return f"{name}={arguments[place + 1]}"
    return f"{name}=VALUE"


def is_file(argument: str) -> bool:
    """Whether an argument names a file, and is no setting; folders are called lr=0.1, too."""
    return "=" not in argument or os.path.isfile(argument)


def split_arguments(arguments: Sequence[str] | None) -> tuple[Path | None, list[str]]:
    """The config file, if there is one, and the overrides."""
    first, *rest = arguments or [""]
    return (Path(first), rest) if first and is_file(first) else (None, list(arguments or []))


def as_config(arguments: Sequence[str] | None, deepspeed: Path | None = None) -> Config:
    """The configuration that the arguments of a verb mean."""
    from avil_fast.config import load

    config = load(*split_arguments(arguments))
    return config if deepspeed is None else config.model_copy(update={"deepspeed": deepspeed})


def show(found: Any) -> None:
    """Print JSON."""
    print(json.dumps(found, indent=2, ensure_ascii=False))
