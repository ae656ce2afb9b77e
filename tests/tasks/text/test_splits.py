"""What is held out, how much is taken, and that nothing leaks."""

from typing import Any

import datasets
import pytest

from avil_fast.config.text_tasks import HoldOut, Limits, TextTaskConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.text import splits
from avil_fast.tasks.text.examples import Examples
from avil_fast.tasks.text.tables import SourceTable
from tests.tasks import made_up


def examples(texts: list[str], name: str = "rows", groups: list[str] | None = None) -> Examples:
    table = SourceTable(datasets.Dataset.from_dict({"text": texts}), name)
    return Examples(table, range(len(texts)), texts, None, [0] * len(texts), groups)


def texts(count: int, seed: int = 0) -> list[str]:
    return [row["text"] for row in made_up.rows(count, seed)]


def sizes(parts: splits.Splits) -> dict[str, int]:
    return {split: len(examples) for split, examples in parts.items()}


def test_what_is_held_out_is_gone_from_train_and_is_the_seeds() -> None:
    given = {"train": examples(texts(100))}
    config = HoldOut(dev=10, test=20)
    one, same, other = (splits.hold_out("news", given, config, seed) for seed in (0, 0, 1))
    assert sizes(one) == {"train": 70, "dev": 10, "test": 20}
    assert sorted(i for part in one.values() for i in part.rows) == list(range(100))
    assert [part.rows for part in one.values()] == [part.rows for part in same.values()]
    assert one["test"].rows != other["test"].rows
    more = splits.hold_out("news", given, HoldOut(dev=30, test=20), 0)
    assert more["test"].rows == one["test"].rows


def test_groups_and_equal_texts_stay_together() -> None:
    words = texts(60)
    words[7] = words[40].upper() + " "  # the same text in other groups, which holds these together
    groups = [str(i // 5) for i in range(60)]
    given = {"train": examples(words, groups=groups)}
    for seed in range(20):
        parts = splits.hold_out("news", given, HoldOut(dev=10, test=10), seed)
        home = {row: name for name, part in parts.items() for row in part.rows}
        for i in home:
            for j in home:
                if groups[i] == groups[j] or {groups[i], groups[j]} == {"1", "8"}:
                    assert home[i] == home[j]


def test_too_much_held_out_is_refused() -> None:
    with pytest.raises(AvilError, match="hold_out takes 5 for test, 5 for dev, but rows has 10 rows in 10 groups"):
        splits.hold_out("news", {"train": examples(texts(10))}, HoldOut(dev=5, test=5), 0)


def test_a_dev_set_that_is_there_is_not_replaced() -> None:
    given = {"train": examples(texts(20)), "dev": examples(texts(5, 1), "own.csv")}
    with pytest.raises(AvilError, match=r"hold_out\.dev is 3, but the task has a dev set \(own\.csv\)"):
        splits.hold_out("news", given, HoldOut(dev=3), 0)
    assert sizes(splits.hold_out("news", given, HoldOut(test=3), 0)) == {"train": 17, "dev": 5, "test": 3}


def test_a_smaller_limit_is_a_part_of_a_larger_one() -> None:
    given = {"train": examples(texts(50)), "dev": examples(texts(5, 1))}
    small, large = (splits.limit("news", given, Limits(train=size), 0) for size in (10, 30))
    assert set(small["train"].rows) < set(large["train"].rows)
    assert sizes(large) == {"train": 30, "dev": 5}
    assert splits.limit("news", given, Limits(), 0) == given
    assert splits.limit("news", given, Limits(train=10), 1)["train"].rows != small["train"].rows


def tasks(**changes: list[str]) -> dict[str, splits.Splits]:
    parts = {
        "news.train": ["a", "b"],
        "news.dev": ["c", "d"],
        "news.test": ["e", "f"],
        "tweets.train": ["g", "h"],
        "tweets.dev": ["a", "g"],
    } | {name.replace("_", "."): value for name, value in changes.items()}
    found: dict[str, splits.Splits] = {}
    for name, value in parts.items():
        task, _, split = name.partition(".")
        found.setdefault(task, {})[split] = examples(value, f"{task}/{split}.csv")
    return found


def configs(**settings: Any) -> dict[str, TextTaskConfig]:
    return {name: TextTaskConfig.model_validate({"files": "x"} | settings) for name in ("news", "tweets")}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, None),
        ({"news_train": ["a", "C "]}, ("dev", "news", "train", 1, (0, 1))),
        ({"news_train": ["f", "e"]}, ("test", "news", "train", 2, (1, 0))),
        ({"tweets_train": ["x", "d", "d"]}, ("dev", "tweets", "train", 1, (1, 1))),
        ({"news_dev": ["c", "e"]}, ("dev", "news", "test", 1, (1, 0))),
    ],
)
def test_leaks_are_found_wherever_they_are(changes: dict[str, list[str]], found: Any) -> None:
    leaks = splits.overlaps(tasks(**changes), "news")
    assert leaks == ([] if found is None else [splits.Overlap(*found)])


def test_a_leak_stops_in_one_sentence_with_both_lines() -> None:
    given = tasks(tweets_train=["x", "d"])
    message = (
        r"news/dev.csv, row 2: this row of the target's dev set stands in the train set of tweets, too "
        r"\(tweets/train.csv, row 2; 1 row does\); .* tasks.tweets.overlap=drop"
    )
    with pytest.raises(AvilError, match=message):
        splits.without_leaks(given, "news", configs())
    assert splits.without_leaks(given, "news", configs(overlap="allow")) == given
    clean = splits.without_leaks(given, "news", configs(overlap="drop"))
    assert clean["tweets"]["train"].first == ["x"]
    assert splits.overlaps(clean, "news") == []


def test_of_dev_and_test_dev_gives_way() -> None:
    clean = splits.without_leaks(tasks(news_dev=["c", "e"]), "news", configs(overlap="drop"))
    assert (clean["news"]["dev"].first, clean["news"]["test"].first) == (["c"], ["e", "f"])


def test_nothing_left_is_refused() -> None:
    with pytest.raises(AvilError, match=r"tasks.tweets: all rows of its train set stand in the target's"):
        splits.without_leaks(tasks(tweets_train=["d"]), "news", configs(overlap="drop"))


def test_pairs_are_the_same_if_both_texts_are() -> None:
    table = SourceTable(datasets.Dataset.from_dict({"text": ["a", "a"]}), "rows")
    pairs = Examples(table, [0, 1], ["a", "a"], ["b", "c"], [0, 1])
    assert pairs.key(0) != pairs.key(1)
