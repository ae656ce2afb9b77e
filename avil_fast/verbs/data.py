"""avil-fast data"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from avil_fast.errors import AvilError
from avil_fast.verbs.arguments import Arguments, AsJson, as_config, show, split_arguments

if TYPE_CHECKING:
    from avil_fast.console import Console
    from avil_fast.tasks.text.overview import Overview


def data(arguments: Arguments = None, as_json: AsJson = False) -> None:
    """Show sizes, labels, lengths and examples of a run's texts, and stop on leaks.

    Example: avil-fast data configs/sentiment.yaml
    """
    from avil_fast.config.model import ConvNetConfig
    from avil_fast.config.text_tasks import TextTasksConfig
    from avil_fast.console import Console

    config = as_config(arguments)
    if not isinstance(config.tasks, TextTasksConfig) or isinstance(config.model, ConvNetConfig):
        name = split_arguments(arguments)[0] or "the default"
        raise AvilError(f"{name} has tasks on images, but this command looks at texts; name another config")
    from avil_fast.tasks.text.overview import overview

    found = overview(config.tasks.by_name, config.model, config.target, config.seed)
    if as_json:
        show(found.as_json())
    else:
        _print(Console(), found)
    if leaks := [leak.sentence for leak in found.leaks if leak.stops]:
        raise AvilError(leaks[0] + (f" ({len(leaks) - 1} more such places)" if leaks[1:] else ""))


def _print(console: Console, overview: Overview) -> None:
    """What a run's data looks like."""
    from avil_fast.report.formatting import NONE

    console.table(
        ["task", "split", "examples", "items", "labels", "tokens", "cut", "repeated"],
        [
            [
                split.task,
                split.split,
                str(split.examples),
                str(split.items),
                "\n".join(f"{name} {value:g}" for name, value in split.labels.items()) or NONE,
                " ".join(map(str, split.tokens.values())),
                f"{split.cut} ({split.cut / split.examples:.0%})" if split.cut else "0",
                str(split.repeated),
            ]
            for split in overview.splits
        ],
        left=["task", "split"],
        whole=["labels", "tokens"],
    )
    console.say("Tokens: the median, 95 % have no more, the longest. Cut: longer than the model reads.")
    console.say("As the model sees them; what is learned is bold.")
    for split in overview.splits:
        if split.split == "train":
            line = Text(f"{split.task}: ")
            for part, learned in split.shown:
                line.append(part, style="bold" if learned else "")
            console.say(line)
    for leak in overview.leaks:
        if not leak.stops:
            console.say(f"overlap: {leak.overlap}. {leak.sentence}")
    if not overview.leaks:
        console.say("No row of the target's dev or test set stands anywhere else.")
