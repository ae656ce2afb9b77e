"""Rated texts: labels, files that are broken, and splits in which nothing leaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avil_fast.errors import AvilError
from avil_fast.tasks.prepare.ratings import Rated, parse, select, split


def test_a_line_is_id_rating_and_text() -> None:
    (first, second) = parse("1_2\t-0.5\tso é \r\n7\t3\t good\n".encode(), "x.tsv")
    assert first == Rated("1_2", -0.5, "so é")
    assert (first.group, first.label) == ("1", 0)
    assert second == Rated("7", 3.0, "good")
    assert (second.group, second.label) == ("7", 1)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"1\t2", "2 columns"),
        (b"1\t2\ta\tb", "4 columns"),
        (b"", "1 columns"),
        (b"\t2\ta", "the id is empty"),
        (b"1\t2\t ", "the text is empty"),
        (b"1\tgood\ta", "rating is 'good'"),
        (b"1\tnan\ta", "rating is 'nan'"),
        (b"1\t4.1\ta", "rating is '4.1'"),
        (b"1\t-4.1\ta", "rating is '-4.1'"),
        (b"1\t2\tclich\xe9", "byte 0xe9 is not UTF-8"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(line: bytes, problem: str) -> None:
    with pytest.raises(AvilError, match=rf"news\.tsv, line 2: .*{problem}") as caught:
        parse(b"1\t1\tok\n" + line + b"\n3\t1\tok\n", "news.tsv")
    assert "\n" not in str(caught.value)


def test_unclear_ratings_repeated_texts_and_unwanted_ones_are_left_out() -> None:
    given_ = {"zero": 0.0, "faint": -0.4, "clear": 0.5, "Said  twice": -2.0, "said Twice": 2.0, "unwanted": 3.0}
    rows = [Rated(str(i), rating, text) for i, (text, rating) in enumerate(given_.items())]
    assert [row.text for row in select(rows, 0.5, frozenset({"unwanted"}))] == ["clear", "Said  twice"]
    assert [row.text for row in select(rows, 0)] == ["faint", "clear", "Said  twice", "unwanted"]


ROWS = [Rated(f"{review}_{i}", 1.0, f"{review} {i}") for review in range(40) for i in range(review % 6 + 1)]


@given(sizes=st.lists(st.integers(1, 40), max_size=4), seed=st.integers(0, 99))
def test_no_group_lies_in_two_parts_and_sizes_are_kept(sizes: list[int], seed: int) -> None:
    parts = split(ROWS, sizes, seed)
    groups = [{row.group for row in part} for part in parts]
    assert sum(map(len, groups)) == len(set().union(*groups))
    enough = sum(sizes) + 6 * len(sizes) <= len(ROWS)  # a part wastes less than a group of 6
    assert [len(part) for part in parts] == sizes or not enough
    assert all(len(part) <= size for part, size in zip(parts, sizes, strict=True))


def test_a_split_is_its_seeds_and_a_later_part_changes_no_earlier_one() -> None:
    assert split(ROWS, [20, 30], 1) == split(ROWS, [20, 30], 1)
    assert split(ROWS, [20, 30], 1) != split(ROWS, [20, 30], 2)
    assert split(ROWS, [20, 30], 1)[0] == split(ROWS, [20, 5], 1)[0]


def test_the_order_of_a_files_lines_does_not_decide_who_is_in_a_part() -> None:
    groups = [[row.group for row in split(rows, [len(ROWS)], 0)[0]] for rows in (ROWS, ROWS[::-1])]
    assert groups[0] == groups[1]
