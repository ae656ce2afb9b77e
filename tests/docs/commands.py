"""Commands on a page: taken apart, checked with the parsers that they will meet, and run."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from packaging.requirements import Requirement

from avil_fast import cli
from avil_fast.config import Config, load
from avil_fast.config.settings import is_known, known_names
from tests.docs.blocks import ROOT

TRAIN = "avil_fast/train.py"
"""Takes what `avil-fast train` takes."""

RUN = ("avil-fast", "python", "cat", "mkdir", "export")
"""What a test runs. All others could change this machine (pip, make) or need another one, and are marked."""

_HEREDOC = re.compile(r"<<-?\s*'?(\w+)'?")


@dataclass(frozen=True)
class Command:
    """One command of a block: as it stands there, with its heredoc, and its words without comment."""

    text: str
    words: list[str]


def commands(text: str) -> Iterator[Command]:
    """The commands of a block, in order."""
    lines = iter(text.splitlines())
    for line in lines:
        whole = line
        while whole.endswith("\\"):
            whole = whole[:-1] + next(lines)
        words = shlex.split(_HEREDOC.sub("", whole), comments=True)
        if not words:
            continue
        if heredoc := _HEREDOC.search(whole):
            for inner in lines:
                whole += "\n" + inner
                if inner == heredoc[1]:
                    break
            else:
                raise ValueError(f"the heredoc of {line!r} does not end")
            whole += "\n"
        yield Command(whole, words)


def as_avil_fast(words: list[str]) -> list[str] | None:
    """The arguments of avil-fast, if that is what runs in the end."""
    if words[0] == "avil-fast":
        return words[1:]
    if words[:2] == ["python", TRAIN]:
        return ["train", *words[2:]]
    return None


def config_of(arguments: list[str]) -> str | None:
    """The run's file among the arguments of avil-fast."""
    return next((word for word in arguments if word.endswith((".yaml", ".yml"))), None)


def check(words: list[str]) -> None:
    """Raise where a command would be refused; in a folder that has the files it names."""
    program = words[0]
    if program not in CHECKS:
        raise ValueError(f"{program}: say in tests/docs/commands.py how this is checked")
    CHECKS[program](words[1:])


def run(command: Command, more: list[str]) -> None:
    """Run it in the present folder, avil-fast in this process: to start a new one takes longer than the run.

    Args:
        more: arguments after those of the page.
    """
    words, target = command.words, None
    if words[0] not in RUN:
        raise ValueError(f"{words[0]} is not run here; put <!-- checked: why --> before the block")
    if ">" in words and as_avil_fast(words):
        words, target = words[: words.index(">")], words[words.index(">") + 1]
    arguments = as_avil_fast(words)
    if arguments is None and words[0] == "python" and words[1] != "-":
        raise ValueError(f"{' '.join(words)} is not run here; put <!-- checked: why --> before the block")
    if arguments is None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(["bash", "-euc", command.text], check=True, env=os.environ | {"PATH": path}, timeout=120)
        return
    arguments = [path for word in arguments for path in (sorted(glob.glob(word)) or [word])]
    with contextlib.ExitStack() as scope:
        if target is not None:
            scope.enter_context(contextlib.redirect_stdout(scope.enter_context(open(target, "w"))))
        typer.main.get_command(cli.app).main([*arguments, *more], prog_name="avil-fast", standalone_mode=False)


def _avil_fast(arguments: list[str]) -> None:
    """The verb and its options exist, the files are there, and the settings make a run."""
    given = list(arguments)
    if ">" in given:
        given = given[: given.index(">")]
    command, name = typer.main.get_command(cli.app), "avil-fast"
    while inner := getattr(command, "commands", None):
        if not given or given[0].startswith("-"):
            break
        name = given.pop(0)
        if name not in inner:
            raise ValueError(f"avil-fast has no verb {name!r}; it has {', '.join(inner)}")
        command = inner[name]
    if given == ["--help"]:
        return
    context = command.make_context(name, list(given))  # it empties the list
    if (path := context.params.get("deepspeed_config")) is not None:
        _exists(str(path))
    files = [word for word in given if word.endswith((".yaml", ".yml"))]
    settings = [word for word in given if "=" in word and not word.startswith("-")]
    for file in files:
        load(Path(file), settings)
    if not files and name == "train":
        load(None, settings)
    for setting in settings:
        if not is_known(setting.partition("=")[0], known_names(Config)):
            raise ValueError(f"{setting}: there is no such setting")


def _deepspeed(arguments: list[str]) -> None:
    from deepspeed.launcher.runner import parse_args

    _launched(arguments, parse_args)


def _torchrun(arguments: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    _launched(arguments, get_args_parser().parse_args)


def _launched(arguments: list[str], parse: Callable[[list[str]], object]) -> None:
    script = next(i for i, word in enumerate(arguments) if word.endswith(".py"))
    parse(arguments)
    _exists(arguments[script])
    if arguments[script] == TRAIN:
        _avil_fast(["train", *arguments[script + 1 :]])


def _python(arguments: list[str]) -> None:
    if arguments[0] == TRAIN:
        return _avil_fast(["train", *arguments[1:]])
    if arguments[:2] == ["-m", "pytest"]:
        for word in arguments[2:]:
            if "/" in word:
                _exists(word)
        return None
    if arguments[0] == "-m":
        spec = importlib.util.find_spec(arguments[1])
        if spec is None:
            raise ValueError(f"python -m {arguments[1]}: there is no such module")
        return None
    if arguments != ["-"]:
        _exists(arguments[0])
    return None


def _pip(arguments: list[str]) -> None:
    """The requirements can be read, and our extras exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    verb, *words = arguments
    if verb not in ("install", "download"):
        raise ValueError(f"pip {verb}: say in tests/docs/commands.py how this is checked")
    for word in words:
        if word.startswith(("-", ":")):
            continue
        requirement = Requirement(word.replace(".[", "avil-fast[", 1) if word.startswith(".[") else word)
        if requirement.name == "avil-fast" and not requirement.extras <= set(extras):
            raise ValueError(f"{word}: the extras are {', '.join(extras)}")


def _make(arguments: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M)
    for word in arguments:
        if word not in targets:
            raise ValueError(f"make {word}: the Makefile has {', '.join(targets)}")


def _tensorboard(arguments: list[str]) -> None:
    if arguments[:1] != ["--logdir"] or len(arguments) != 2:
        raise ValueError(f"tensorboard {' '.join(arguments)}: only --logdir FOLDER is known here")


def _mkdocs(arguments: list[str]) -> None:
    if arguments not in (["serve"], ["build", "--strict"]):
        raise ValueError(f"mkdocs {' '.join(arguments)}: only serve and build --strict are known here")


def _installs(arguments: list[str]) -> None:
    if arguments[:1] != ["install"] or len(arguments) < 2:
        raise ValueError(f"{' '.join(arguments)}: only install PACKAGE is known here")


def _exists(path: str) -> None:
    if not Path(path).exists():
        raise ValueError(f"{path} is not there")


def _as_it_is(arguments: list[str]) -> None:
    """There is nothing to check before it is run."""


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "avil-fast": _avil_fast,
    "deepspeed": _deepspeed,
    "torchrun": _torchrun,
    "python": _python,
    ".venv/bin/python": _python,
    "pip": _pip,
    "make": _make,
    "tensorboard": _tensorboard,
    "mkdocs": _mkdocs,
    "npm": _installs,
    "apt-get": _installs,
    "cat": _as_it_is,
    "mkdir": _as_it_is,
    "export": _as_it_is,
}
"""By program: raises where the rest of a command is wrong."""
