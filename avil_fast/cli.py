"""The command `avil-fast`: its verbs, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from avil_fast.errors import AvilError, RankLost, Stopped
from avil_fast.verbs import prepare
from avil_fast.verbs.arguments import Verb
from avil_fast.verbs.compare import compare
from avil_fast.verbs.data import data
from avil_fast.verbs.env import env
from avil_fast.verbs.evaluate import evaluate
from avil_fast.verbs.export import export
from avil_fast.verbs.inspect import inspect
from avil_fast.verbs.plan import plan
from avil_fast.verbs.report import report
from avil_fast.verbs.schema import schema
from avil_fast.verbs.train import train

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train a model for one target task with each auxiliary dataset weighted by a learned α (αVIL).",
)


def _version(asked: bool) -> None:
    if asked:
        print(importlib.metadata.version("avil-fast"))
        raise typer.Exit


@app.callback(help=app.info.help)
def _of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


for verb in (train, evaluate, compare, plan, report, export, data, inspect, schema, env):
    app.command(cls=Verb)(verb)
app.add_typer(prepare.app, name="prepare")


def main() -> None:
    """Entry point of the command."""
    _run(app)


def train_main() -> None:
    """Entry point of avil_fast/train.py: the verb `train` without its name."""
    _run(lambda: app(args=["train", *sys.argv[1:]], prog_name="avil_fast/train.py"))


def _run(command: Callable[[], Any]) -> None:
    """A user's mistake is one sentence on stderr and exit code 2; warnings are one line each.

    On many ranks one of them tells, whatever ended the run.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="replace")  # α and θ in a locale that does not have them
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # takes the rest as *_
    try:
        command()
    except AvilError as error:
        _end(error, 2, f"avil-fast: {error}")
    except Stopped as error:
        _end(error, error.code, f"avil-fast: {error}")
    except RankLost as error:
        _end(error, 1, f"avil-fast: {error}")
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # an argument; settings are checked
            _end(error, 2, f"avil-fast: {AvilError(f'{error.filename!r} is too long for a path; check it')}")
        _end(error, 1, "".join(traceback.format_exception(error)).rstrip())


def _end(error: BaseException, code: int, message: str) -> NoReturn:
    if "WORLD_SIZE" not in os.environ:
        tells = True
    else:
        from avil_fast.engine.lost_ranks import should_report

        tells = should_report(error)
    if tells:
        with contextlib.suppress(OSError):
            print(message, file=sys.stderr, flush=True)
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if not issubclass(category, UserWarning):
        return
    with contextlib.suppress(OSError):  # as Python's own
        print(f"avil-fast: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
