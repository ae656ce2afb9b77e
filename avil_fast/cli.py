"""The command `avil-fast` and its verbs."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from avil_fast.errors import AvilError, RankLost, Stopped

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train a model for one target task and learn which auxiliary datasets help (αVIL).",
)

prepare = typer.Typer(no_args_is_help=True, help="Make data files and small models.")
app.add_typer(prepare, name="prepare")


@app.command()
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="A YAML file, and settings that override it."),
    ] = None,
    deepspeed_config: Annotated[
        Path | None, typer.Option("--deepspeed_config", help="DeepSpeed's JSON file.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="auto|PATH", help="Go on from the newest checkpoint of output_dir, or from this."),
    ] = None,
    local_rank: Annotated[int, typer.Option("--local_rank", hidden=True)] = 0,
) -> None:
    """Train, by default on the bundled digits. Example: avil-fast train configs/digits.yaml rounds=10"""
    from avil_fast import launch
    from avil_fast.checkpoint.resume import as_resume

    given = arguments or []
    is_file = bool(given) and "=" not in given[0]
    config = Path(given[0]) if is_file else None
    launch.train(config, given[is_file:], deepspeed_config, as_resume(resume))


@app.command()
def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="Its folder, or that of a run: the newest one.")],
    check: Annotated[bool, typer.Option(help="Read all of it and compare checksums.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Tell what a checkpoint is and whether it is whole. Example: avil-fast inspect runs/digits"""
    from avil_fast.checkpoint.inspect import find
    from avil_fast.checkpoint.inspect import inspect as look
    from avil_fast.console import Console

    path = find(checkpoint)
    found = look(path, check)
    if as_json:
        print(json.dumps({"checkpoint": str(path)} | found.as_json(), indent=2))
    else:
        Console().checkpoint(path, found, check)
    if found.damage:
        raise AvilError("; ".join(found.damage))


@app.command()
def data(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="CONFIG [KEY=VALUE]...", help="A YAML file, and settings that override it."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show sizes, labels, lengths and examples of a run's data, and stop on leaks.

    Example: avil-fast data configs/sentiment.yaml
    """
    from avil_fast.config import load
    from avil_fast.console import Console
    from avil_fast.model_config import ConvNetConfig
    from avil_fast.task_config import TextTasksConfig

    config = load(Path(arguments[0]), arguments[1:])
    if not isinstance(config.tasks, TextTasksConfig) or isinstance(config.model, ConvNetConfig):
        raise AvilError(f"{arguments[0]} has tasks on images, but this command looks at texts; name another")
    from avil_fast.tasks.text.overview import overview

    found = overview(config.tasks.by_name, config.model, config.target, config.seed)
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        Console().data(found)
    if leaks := [leak.sentence for leak in found.leaks if leak.stops]:
        raise AvilError(leaks[0] + (f" ({len(leaks) - 1} more such places)" if leaks[1:] else ""))


@app.command()
def schema() -> None:
    """Print the JSON schema of a run's configuration. Example: avil-fast schema > avil-fast.schema.json"""
    from avil_fast.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2))


@prepare.command()
def sentiment(
    package: Annotated[Path, typer.Argument(help="vaderSentiment-3.3.2.tar.gz")],
    to: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("data/sentiment"),
) -> None:
    """Tweets, film reviews, product reviews and news, positive or negative, for configs/sentiment.yaml.

    Fetch the package first: pip download --no-binary :all: --no-deps vaderSentiment==3.3.2
    """
    from avil_fast.tasks.prepare.sentiment import prepare

    counts = prepare(package, to)
    texts = ", ".join(f"{domain} {sum(parts.values())}" for domain, parts in counts.items())
    print(f"{to}: {texts} texts; the citation they ask for is in CITATION.txt")


@prepare.command()
def pairs(
    source: Annotated[Path, typer.Argument(help="What prepare sentiment made.")] = Path("data/sentiment"),
    to: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("data/pairs"),
) -> None:
    """Pairs of these texts, and which is more positive, for configs/pairs.yaml.

    Example: avil-fast prepare pairs data/sentiment
    """
    from avil_fast.tasks.prepare.pairs import prepare

    counts = prepare(source, to)
    print(f"{to}: {', '.join(f'{domain} {count}' for domain, count in counts.items())} pairs")


@prepare.command(name="language-model")
def language_model(
    files: Annotated[list[Path], typer.Argument(help="csv, tsv, jsonl or parquet files with texts.")],
    to: Annotated[Path, typer.Option(help="Folder for the model.")] = Path("models/small"),
    column: Annotated[str, typer.Option(help="Of the texts.")] = "text",
    vocabulary: Annotated[int, typer.Option(help="Tokens at most.")] = 4000,
    width: Annotated[int, typer.Option(help="Of the hidden states, a multiple of 64.")] = 256,
    layers: Annotated[int, typer.Option(help="Of the model.")] = 4,
    positions: Annotated[int, typer.Option(help="Tokens of a text at most.")] = 256,
) -> None:
    """A small causal language model, not trained yet, with a tokenizer learned from texts.

    Example: avil-fast prepare language-model data/sentiment/*/train.csv
    """
    from avil_fast.tasks.prepare.language_model import prepare

    count = prepare(files, to, column, vocabulary, width, layers, positions)
    print(f"{to}: {count / 1e6:.1f} million parameters; train it with model.path={to} model.init=random")


@prepare.callback()
def _prepare() -> None:
    """Keeps the data sets verbs of `prepare`, even if there is one."""


@app.callback()
def _root() -> None:
    """Keeps the verbs verbs, however many there are."""


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
        _end(error, 1, "".join(traceback.format_exception(error)).rstrip())


def _end(error: BaseException, code: int, message: str) -> NoReturn:
    if "WORLD_SIZE" not in os.environ:
        tells = True
    else:
        from avil_fast.engine.ranks import speaks

        tells = speaks(error)
    if tells:
        print(message, file=sys.stderr, flush=True)
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if issubclass(category, UserWarning):
        print(f"avil-fast: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
