"""Pairs out of rated texts."""

import csv
from pathlib import Path

import pytest

from avil_fast.errors import AvilError
from avil_fast.tasks.prepare.pairs import prepare
from tests.tasks import made_up


def test_every_text_is_in_one_pair_of_its_own_split(tmp_path: Path) -> None:
    rating: dict[str, float] = {}
    for split, size in (("train", 21), ("dev", 10)):
        rows = made_up.rows(size, seed=size)
        own = {row["text"]: (i - 10) / 4 for i, row in enumerate(rows)}
        rating |= own
        made_up.write(
            tmp_path / "in" / "news" / f"{split}.csv", [{"text": t, "rating": str(r)} for t, r in own.items()]
        )
    assert prepare(tmp_path / "in", tmp_path / "out") == {"news": 15}
    seen: list[str] = []
    for split, size in (("train", 10), ("dev", 5)):
        with (tmp_path / "out" / "news" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            pairs = list(csv.DictReader(file))
        assert len(pairs) == size
        for pair in pairs:
            difference = rating[pair["first"]] - rating[pair["second"]]
            assert float(pair["difference"]) == pytest.approx(difference)
            assert pair["more_positive"] == ("first" if difference > 0 else "second")
            seen += [pair["first"], pair["second"]]
    assert len(seen) == len(set(seen)) == 30


def test_a_source_without_domains_is_answered_with_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(AvilError, match=r"holds no DOMAIN/train\.csv; make it with: avil-fast prepare sentiment"):
        prepare(tmp_path, tmp_path / "out")
