"""Which rows a task trains on and is measured on, and that none of them leaks from one to the other."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from avil_fast.config.text_tasks import HoldOut, Limits, TextTaskConfig
from avil_fast.errors import AvilError
from avil_fast.randomness import derive_seed
from avil_fast.tasks.text.examples import Examples

Splits = dict[str, Examples]
"""The examples of a task by split: train, dev, test."""


@dataclass(frozen=True)
class Overlap:
    """Examples of the target's dev or test that stand somewhere else, too."""

    split: str
    """The target's split: dev or test."""
    task: str
    """Name of the task in whose split they stand, too."""
    other: str
    """That split: train, or the target's own test."""
    count: int
    first: tuple[int, int]
    """One of them: its number here and there."""


def hold_out(task: str, splits: Splits, config: HoldOut, seed: int) -> Splits:
    """Move some of train to test and dev, whole groups and equal texts together.

    Test is drawn first, so that another size of dev or train measures the same.

    Raises:
        AvilError: nothing is left of train.
    """
    train = splits["train"]
    for split in ("dev", "test"):
        if split in splits and getattr(config, split):
            raise AvilError(
                f"tasks.{task}.hold_out.{split} is {getattr(config, split)}, but the task has a {split} set "
                f"({splits[split].table.name}); leave one out"
            )
    group_of = _groups(train)
    order = sorted(set(group_of))
    random.Random(derive_seed(seed, task, "hold out")).shuffle(order)
    members: dict[str, list[int]] = {}
    for index, group in enumerate(group_of):
        members.setdefault(group, []).append(index)
    rest, parts = iter(order), {}
    for split, size in (("test", config.test), ("dev", config.dev)):
        if size is None:
            continue
        taken: list[int] = []
        while len(taken) < size and (name := next(rest, None)) is not None:
            taken += members[name]
        parts[split] = taken[:size]
    left = sorted(index for group in rest for index in members[group])
    if not left or any(len(parts[split]) < (getattr(config, split) or 0) for split in parts):
        wanted = ", ".join(f"{getattr(config, split)} for {split}" for split in parts)
        raise AvilError(
            f"tasks.{task}.hold_out takes {wanted}, but {train.table.name} has {len(train)} rows in {len(order)} "
            f"groups; lower it"
        )
    return (
        splits | {"train": train.take(left)} | {split: train.take(sorted(part)) for split, part in parts.items()}
    )


def _groups(examples: Examples) -> list[str]:
    """A name for each example, the same for those that must stay together."""
    if examples.groups is None:
        return [examples.key(index) for index in range(len(examples))]
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for index, group in enumerate(examples.groups):
        root[find("text " + examples.key(index))] = find("group " + group)
    return [find("group " + group) for group in examples.groups]


def limit(task: str, splits: Splits, limits: Limits, seed: int) -> Splits:
    """At most so many examples of each split, a draw of which a smaller one is a part."""
    found = {}
    for split, examples in splits.items():
        size = getattr(limits, split)
        order = list(range(len(examples)))
        if size is not None and size < len(order):
            random.Random(derive_seed(seed, task, split, "limit")).shuffle(order)
            examples = examples.take(sorted(order[:size]))
        found[split] = examples
    return found


def overlaps(tasks: Mapping[str, Splits], target: str) -> list[Overlap]:
    """Where examples of the target's dev and test stand as well: in any train set, or of dev in test."""
    own = tasks[target]
    found = []
    for split in ("dev", "test"):
        if split not in own:
            continue
        keys = {own[split].key(index): index for index in reversed(range(len(own[split])))}
        others = [(name, "train", splits["train"]) for name, splits in tasks.items()]
        if split == "dev" and "test" in own:
            others.append((target, "test", own["test"]))
        for name, other, examples in others:
            both = [(keys[key], j) for j in range(len(examples)) if (key := examples.key(j)) in keys]
            if both:
                found.append(Overlap(split, name, other, len({i for i, _ in both}), both[0]))
    return found


def without_leaks(
    tasks: Mapping[str, Splits], target: str, configs: Mapping[str, TextTaskConfig]
) -> dict[str, Splits]:
    """The splits without train examples that the target is measured on, as each task's `overlap` says.

    Raises:
        AvilError: there are such examples, and `overlap` is stop; names both lines.
    """
    clean = {name: dict(splits) for name, splits in tasks.items()}
    for leak in overlaps(tasks, target):
        match configs[leak.task].overlap:
            case "stop":
                raise AvilError(sentence(leak, tasks, target))
            case "drop":
                # Of dev and test it is dev that gives way, else the train set.
                name, split = (target, "dev") if leak.other == "test" else (leak.task, "train")
                against = tasks[target]["test" if leak.other == "test" else leak.split]
                clean[name][split] = _without(clean[name][split], against)
    for name, splits in clean.items():
        for split, examples in splits.items():
            if not examples:
                raise AvilError(
                    f"tasks.{name}: all rows of its {split} set stand in the target's dev or test set, too; take "
                    f"others"
                )
    return clean


def sentence(leak: Overlap, tasks: Mapping[str, Splits], target: str, stops: bool = True) -> str:
    """A leak in one sentence, with a line on both sides, and what to do about one that stops a run."""
    here, there = tasks[target][leak.split], tasks[leak.task][leak.other]
    i, j = leak.first
    rows = "1 row does" if leak.count == 1 else f"{leak.count} rows do"
    advice = f"; take it out of one of them, or set tasks.{leak.task}.overlap=drop" if stops else ""
    return (
        f"{here.where(i)}: this row of the target's {leak.split} set stands in the {leak.other} set of "
        f"{leak.task}, too ({there.where(j)}; {rows}){advice}"
    )


def _without(examples: Examples, others: Examples) -> Examples:
    keys = {others.key(index) for index in range(len(others))}
    return examples.take([index for index in range(len(examples)) if examples.key(index) not in keys])
