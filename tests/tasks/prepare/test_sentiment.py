"""The four domains out of their package, and packages that are not what they should be."""

import gzip
import io
import re
import sys
import tarfile
from pathlib import Path

import pytest

from avil_fast import cli
from avil_fast.errors import AvilError
from avil_fast.tasks.prepare import sentiment
from avil_fast.tasks.prepare.ratings import Rated, parse
from avil_fast.tasks.prepare.sentiment import DOWNLOAD, INNER, MEMBERS, members, prepare, split
from tests.tasks import made_up


def test_the_command_writes_the_splits_of_four_domains_and_the_citation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", None)  # main() sets it; this restores it
    Path("package.tar.gz").write_bytes(
        made_up.package({"movies": '1\t2\tcliché, "so"\r\n2\t-1\tno\r\n3\t0\tx'.encode()})
    )
    monkeypatch.setattr(sys, "argv", ["avil-fast", "prepare", "sentiment", "package.tar.gz", "--to", "a/b"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "tweets 10, movies 2, products 3, news 3 texts" in capsys.readouterr().out
    names = {path.name for path in Path("a/b").iterdir()}
    assert names == {"tweets", "movies", "products", "news", "CITATION.txt"}
    rows = ['"cliché, ""so""",positive,2.0,1', "no,negative,-1.0,2"]
    header, *written = Path("a/b/movies/train.csv").read_text(encoding="utf-8").splitlines()
    assert header == "text,label,rating,id"
    assert sorted(written) == sorted(rows)
    kinds = ("train", "dev", "test")
    lines = [len(Path(f"a/b/news/{kind}.csv").read_text(encoding="utf-8").splitlines()) for kind in kinds]
    assert lines == [1, 1 + 1, 1 + 2]  # the rest belongs to the same reviews
    assert "Hutto, C.J. & Gilbert, E.E. (2014)" in Path("a/b/CITATION.txt").read_text(encoding="utf-8")


GOOD = made_up.package()
EVIL = made_up.archive({f"../../{INNER}": b"", "/etc/passwd": b"x", f"a/../{INNER}": b""})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no readable"),
        (b"no archive", "no readable"),
        (gzip.compress(b"no archive"), "no readable"),
        (GOOD[: len(GOOD) // 2], "no readable"),
        (made_up.archive({"a/setup.py": b""}), f"has no file {INNER}"),
        (EVIL, f"has no file {INNER}"),
        (made_up.archive({f"a/{INNER}": made_up.archive({})}), "hutto.*has no file tweets_GroundTruth.txt"),
        (made_up.package({"news": b"1\t2"}), "nytEditorialSnippets_GroundTruth.txt, line 1: there are 2 columns"),
    ],
    ids=["empty", "text", "gzipped text", "cut", "other", "paths", "empty within", "bad line"],
)
def test_a_wrong_package_is_one_sentence_and_nothing_is_written(
    content: bytes, problem: str, tmp_path: Path
) -> None:
    package = tmp_path / "package.tar.gz"
    package.write_bytes(content)
    with pytest.raises(AvilError, match=rf"package\.tar\.gz.*{problem}") as caught:
        prepare(package, tmp_path / "to")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "to").exists()


def test_a_missing_package_is_answered_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(AvilError, match=re.escape(DOWNLOAD)):
        prepare(tmp_path / "none.tar.gz", tmp_path / "to")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "package.tar.gz").write_bytes(GOOD)
    with pytest.raises(AvilError, match="file' cannot be written"):
        prepare(tmp_path / "package.tar.gz", tmp_path / "file")


def test_a_link_is_not_followed() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("a/wanted")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(AvilError, match="has no file wanted"):
        members(buffer.getvalue(), ["wanted"], "x")


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = made_up.archive({"a/padding": bytes(1000), "a/wanted": b"x"})
    assert members(bomb, ["wanted"], "x") == {"wanted": b"x"}
    monkeypatch.setattr(sentiment, "LIMIT", 1000)
    with pytest.raises(AvilError, match="unpacks to more than 1000 bytes"):
        members(bomb, ["wanted"], "x")


def test_every_domain_has_its_member() -> None:
    assert list(MEMBERS) == ["tweets", "movies", "products", "news"]


def test_nothing_that_is_measured_on_is_trained_on() -> None:
    rows = {domain: parse(made_up.ratings(domain, 150), domain) for domain in MEMBERS}
    rows["movies"] += [Rated(f"x{i}", row.rating, row.text.upper()) for i, row in enumerate(rows["news"])]
    parts = split(rows)
    assert parts == split(rows)
    measured = {row.key for own in parts.values() for name in ("dev", "test") for row in own[name]}
    for own in parts.values():
        assert not measured & {row.key for row in own["train"]}
        for one, other in (("dev", "test"), ("train", "dev"), ("train", "test")):
            assert not {row.group for row in own[one]} & {row.group for row in own[other]}
    assert {row.key for row in parts["news"]["train"]} <= {row.key for row in parts["movies"]["train"]} | measured
