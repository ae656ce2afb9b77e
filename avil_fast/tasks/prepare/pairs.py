"""Pairs of texts out of rated ones: which is more positive, and by how much."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from avil_fast.config.text_tasks import TextTaskConfig
from avil_fast.errors import AvilError, reason
from avil_fast.randomness import derive_seed
from avil_fast.tasks.text import sources

COLUMNS = ("first", "second", "more_positive", "difference")


def prepare(source: Path, folder: Path) -> dict[str, int]:
    """Write `DOMAIN/SPLIT.csv` for each one that `prepare sentiment` wrote into `source`; every text in one pair.

    Args:
        source: what `prepare sentiment` made.
        folder: made if it is not there; files of these names in it are replaced.

    Returns:
        The number of pairs by domain.

    Raises:
        AvilError: there is no domain in the source, or a file cannot be read or written.
    """
    domains = sorted(path.parent.name for path in source.glob("*/train.csv"))
    if not domains:
        raise AvilError(f"{str(source)!r} holds no DOMAIN/train.csv; make it with: avil-fast prepare sentiment")
    counts = dict.fromkeys(domains, 0)
    for domain in domains:
        for split, table in sources.read(domain, TextTaskConfig(files=source / domain)).items():
            texts, ratings = (table.column(name, "the column") for name in ("text", "rating"))
            rows = list(zip(texts, map(float, ratings), strict=True))
            random.Random(derive_seed("pairs", domain, split)).shuffle(rows)
            pairs = [(a, b) for a, b in zip(rows[::2], rows[1::2], strict=False) if a[1] != b[1]]
            _write(folder / domain / f"{split}.csv", pairs)
            counts[domain] += len(pairs)
    return counts


TextAndRating = tuple[str, float]


def _write(path: Path, pairs: list[tuple[TextAndRating, TextAndRating]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for (first, one), (second, other) in pairs:
                writer.writerow((first, second, "first" if one > other else "second", round(one - other, 3)))
    except OSError as error:
        raise AvilError(f"{str(path)!r} cannot be written: {reason(error)}; name another folder") from error
