"""avil-fast prepare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make data files and small models.")


@app.command()
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


@app.command()
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


@app.command(name="language-model")
def language_model(
    files: Annotated[list[Path], typer.Argument(help="csv, tsv, jsonl or parquet files with texts.")],
    to: Annotated[Path, typer.Option(help="Folder for the model.")] = Path("models/small"),
    column: Annotated[str, typer.Option(help="The column that holds the texts.")] = "text",
    vocabulary: Annotated[int, typer.Option(help="Largest size of the vocabulary.")] = 4000,
    width: Annotated[int, typer.Option(help="Size of the hidden states, a multiple of 64.")] = 256,
    layers: Annotated[int, typer.Option(help="Number of layers.")] = 4,
    positions: Annotated[int, typer.Option(help="Longest text, in tokens.")] = 256,
) -> None:
    """A small causal language model, not trained yet, with a tokenizer learned from texts.

    Example: avil-fast prepare language-model data/sentiment/*/train.csv
    """
    from avil_fast.tasks.prepare.language_model import prepare

    count = prepare(files, to, column, vocabulary, width, layers, positions)
    print(f"{to}: {count / 1e6:.1f} million parameters; train it with model.path={to} model.init=random")
