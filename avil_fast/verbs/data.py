"""avil-fast data"""

from __future__ import annotations

from avil_fast.errors import AvilError
from avil_fast.verbs.arguments import Arguments, AsJson, as_config, show


def data(arguments: Arguments = None, as_json: AsJson = False) -> None:
    """Show sizes, labels, lengths and examples of a run's texts, and stop on leaks.

    Example: avil-fast data configs/sentiment.yaml
    """
    from avil_fast.config.model import ConvNetConfig
    from avil_fast.config.text_tasks import TextTasksConfig
    from avil_fast.console import Console

    config = as_config(arguments)
    if not isinstance(config.tasks, TextTasksConfig) or isinstance(config.model, ConvNetConfig):
        name = arguments[0] if arguments and "=" not in arguments[0] else "the default"
        raise AvilError(f"{name} has tasks on images, but this command looks at texts; name another config")
    from avil_fast.tasks.text.overview import overview

    found = overview(config.tasks.by_name, config.model, config.target, config.seed)
    if as_json:
        show(found.as_json())
    else:
        Console().data(found)
    if leaks := [leak.sentence for leak in found.leaks if leak.stops]:
        raise AvilError(leaks[0] + (f" ({len(leaks) - 1} more such places)" if leaks[1:] else ""))
