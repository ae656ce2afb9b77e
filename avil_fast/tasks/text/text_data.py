"""What tasks on texts are made of: their rows, split by split, read before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avil_fast.config.model import TextModelConfig
from avil_fast.config.text_tasks import TextTaskConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.text import examples, labels, sources, splits
from avil_fast.tasks.text.loading import load_tokenizer


@dataclass(frozen=True)
class TextData:
    """What the tasks are made of, before a model is loaded.

    Attributes:
        configs: by task, target first.
        read: all rows by task and split, after some were held out and limits were kept.
        tokenizer: of the model.
        classes: names of a classification's classes, by task.
    """

    configs: Mapping[str, TextTaskConfig]
    read: Mapping[str, splits.Splits]
    tokenizer: Any
    classes: Mapping[str, Sequence[str]]


def read_data(
    configs: Mapping[str, TextTaskConfig], model: TextModelConfig, target: str, seed: int, everything: bool = False
) -> TextData:
    """Read the rows of all tasks; leaks are not looked for.

    Args:
        everything: the dev and test sets of auxiliaries, too, which a run has no use for.

    Raises:
        AvilError: the target is none of the tasks, or something cannot be read; names file and line.
    """
    if target not in configs:
        known = ", ".join(configs) or "none"
        raise AvilError(f"target is {target!r}, but the tasks are {known}; name one of them")
    for name in configs:
        if not name or "." in name or "/" in name:
            raise AvilError(f"a task is named {name!r}, but a name has no . or / in it; rename it")
    configs = {target: configs[target]} | dict(configs)
    tokenizer = load_tokenizer(model)
    read: dict[str, splits.Splits] = {}
    classes: dict[str, Sequence[str]] = {}
    for task, config in configs.items():
        wanted = tuple(sources.NAMES) if everything or task == target else ("train",)
        tables_of = sources.read(task, config, wanted)
        classes[task] = ()
        if config.kind == "classification":
            classes[task] = labels.classes_of(task, config, tables_of["train"])
        found = {
            split: examples.read(task, config, table, classes[task], tokenizer)
            for split, table in tables_of.items()
        }
        if config.hold_out is not None:
            found = splits.hold_out(task, found, config.hold_out, seed)
        read[task] = splits.limit(task, found, config.limits, seed)
    if "dev" not in read[target]:
        raise AvilError(
            f"tasks.{target} is the target, but has no dev set, which α is learned on; give it one, or set "
            f"tasks.{target}.hold_out.dev=100"
        )
    return TextData(configs, read, tokenizer, classes)
