"""Positive or negative, in four domains: tweets, film reviews, product reviews and news editorials.

The texts and their mean ratings are those of Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model
for Sentiment Analysis of Social Media Text", ICWSM 2014; `avil-fast prepare sentiment` unpacks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import nn

from avil_fast.config import Domain, EncoderConfig, SentimentConfig
from avil_fast.errors import AvilError
from avil_fast.tasks import encoder, ratings
from avil_fast.tasks.batches import derive_seed
from avil_fast.tasks.ratings import Rated
from avil_fast.tasks.task import Task
from avil_fast.tasks.texts import Texts, classification

DOMAINS: tuple[str, ...] = get_args(Domain)

HOW = "avil-fast prepare sentiment --help says how to make it"


def build(
    config: SentimentConfig,
    model: EncoderConfig,
    target: str,
    seed: int,
    zero3: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, list[Task]]:
    """The tasks, target first, and the encoder with a head for each.

    Args:
        config: where the files are, and how much of them.
        model: the encoder.
        target: one of `DOMAINS`.
        seed: of the splits and of the heads.
        zero3: see `encoder.build`.

    Raises:
        AvilError: target and auxiliaries do not fit together, or a file or the encoder is not usable.
    """
    names = check_names(config, target)
    splits = read_splits(config, names, seed)
    network, tokenizer = encoder.build(model, dict.fromkeys(names, 2), seed, zero3)

    def texts(rows: Sequence[Rated]) -> Texts:
        return Texts(tokenizer, [row.text for row in rows], [row.label for row in rows], model.max_length)

    tasks = [
        classification(name, tokenizer, **{split: texts(rows) for split, rows in parts.items()})
        for name, parts in splits.items()
    ]
    return network, tasks


def check_names(config: SentimentConfig, target: str) -> list[str]:
    """The run's domains, target first."""
    if target not in DOMAINS:
        raise AvilError(f"target is {target!r}, but the domains are {', '.join(DOMAINS)}; name one of them")
    if config.auxiliaries is None:
        return [target, *(name for name in DOMAINS if name != target)]
    names = [target, *config.auxiliaries]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise AvilError(f"tasks.auxiliaries names {twice!r} twice, or as well as target does; leave one out")
    return names


def read_splits(config: SentimentConfig, names: Sequence[str], seed: int) -> dict[str, dict[str, list[Rated]]]:
    """Rows by domain and split: train, dev and test of the target, which is first in `names`; train of the others.

    No review and no text of the target lies in two splits, and no auxiliary holds a text of its dev or test.
    """
    if not config.folder.is_dir():
        raise AvilError(f"tasks.folder is {str(config.folder)!r}, but there is no such folder; {HOW}")
    target, *auxiliaries = names
    rows = ratings.select(_read(config, target), config.min_rating)
    sizes = {"test": config.test, "dev": config.dev, "train": config.train}
    parts = dict(zip(sizes, ratings.split(rows, list(sizes.values()), derive_seed(seed, target)), strict=True))
    for name, size in sizes.items():
        if len(parts[name]) < size:
            raise AvilError(
                f"tasks.{name} is {size}, but after test, dev and train in this order {len(parts[name])} of the "
                f"{len(rows)} texts of {target} are left for it; lower tasks.test, tasks.dev or tasks.train"
            )
    held_out = frozenset(row.key for name in ("dev", "test") for row in parts[name])
    splits = {target: {name: parts[name] for name in ("train", "dev", "test")}}
    for auxiliary in auxiliaries:
        rows = ratings.select(_read(config, auxiliary), config.min_rating, without=held_out)
        (train,) = ratings.split(rows, [config.auxiliary_train], derive_seed(seed, auxiliary))
        splits[auxiliary] = {"train": train}
    return splits


def _read(config: SentimentConfig, domain: str) -> list[Rated]:
    path = config.folder / f"{domain}.tsv"
    if not path.is_file():
        raise AvilError(f"tasks.folder is {str(config.folder)!r}, but has no {path.name}; {HOW}")
    return ratings.read(path)
