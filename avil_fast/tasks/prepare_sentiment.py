"""The four sentiment domains, out of the source package of vaderSentiment 3.3.2.

The package holds an archive, and that holds the texts. Members are read by name into memory and written
under names of our own, so that no path of an archive is ever a path on disk.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path

from avil_fast.errors import AvilError
from avil_fast.tasks import ratings
from avil_fast.tasks.sentiment import DOMAINS

DOWNLOAD = "pip download --no-binary :all: --no-deps vaderSentiment==3.3.2"
FETCH = f"fetch it with: {DOWNLOAD}"

INNER = "additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBERS = {
    "tweets": "tweets_GroundTruth.txt",
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "news": "nytEditorialSnippets_GroundTruth.txt",
}
LIMIT = 64 << 20
"""Bytes that an archive may unpack to; the real ones come to 3 and 6 million."""

CITATION = """\
The texts and their ratings in this folder come from the source package of vaderSentiment 3.3.2, whose
README asks for this citation:

Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text. Eighth International Conference on Weblogs and Social Media (ICWSM-14). Ann Arbor, MI,
June 2014.
"""


def prepare(package: Path, folder: Path) -> dict[str, int]:
    """Write `tweets.tsv`, `movies.tsv`, `products.tsv`, `news.tsv` and `CITATION.txt` into a folder.

    Args:
        package: the file that `DOWNLOAD` fetches.
        folder: made if it is not there; files of these names in it are replaced.

    Returns:
        The number of texts by domain.

    Raises:
        AvilError: the package cannot be read or is not the right one; nothing is written then.
    """
    try:
        content = package.read_bytes()
    except OSError as error:
        raise AvilError(f"the package {str(package)!r} cannot be read: {error.strerror}; {FETCH}") from error
    inner = members(content, [INNER], str(package))[INNER]
    found = members(inner, list(MEMBERS.values()), f"{package}, {INNER}")
    files = {domain: found[MEMBERS[domain]].replace(b"\r\n", b"\n") for domain in DOMAINS}
    counts = {domain: len(ratings.parse(files[domain], f"{package}, {MEMBERS[domain]}")) for domain in DOMAINS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for domain, text in files.items():
            (folder / f"{domain}.tsv").write_bytes(text)
        (folder / "CITATION.txt").write_text(CITATION, encoding="utf-8")
    except OSError as error:
        raise AvilError(f"{str(folder)!r} cannot be written: {error.strerror}; name another folder") from error
    return counts


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
