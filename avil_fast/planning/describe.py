"""A run as its plan sees it, from its configuration, before anything is loaded."""

from __future__ import annotations

from avil_fast.config import Config
from avil_fast.config.model import ConvNetConfig
from avil_fast.config.text_tasks import TextTasksConfig
from avil_fast.engine.factory import zero_of
from avil_fast.errors import AvilError
from avil_fast.planning.memory import PlannedRun
from avil_fast.tasks.shapes.base import Shape


def planned_run(config: Config, ranks: int, on_gpu: bool) -> PlannedRun:
    """The run of a configuration on so many ranks.

    Raises:
        AvilError: there is no such target or model, the DeepSpeed file cannot be used, or the batch is smaller
            than the ranks.
    """
    if isinstance(config.tasks, TextTasksConfig):
        tasks, dev = len(config.tasks.by_name), _dev_examples(config.tasks, config.target)
    else:
        tasks, dev = 1 + len(config.tasks.auxiliaries), config.tasks.dev
    return PlannedRun(
        config=config,
        shape=_shape(config),
        tasks=tasks,
        ranks=ranks,
        zero=zero_of(config, ranks),
        on_gpu=on_gpu,
        dev=dev,
    )


def _dev_examples(tasks: TextTasksConfig, target: str) -> int | None:
    """The number of the target's dev examples, if the settings tell it."""
    if target not in tasks.by_name:
        raise AvilError(f"target is {target!r}, but the tasks are {', '.join(tasks.by_name)}; name one of them")
    own = tasks.by_name[target]
    return own.limits.dev or (own.hold_out.dev if own.hold_out else None)


def _shape(config: Config) -> Shape:
    if isinstance(config.tasks, TextTasksConfig):
        from avil_fast.tasks.shapes.formulas import by_formulas
        from avil_fast.tasks.shapes.remembered import RememberedShape

        assert not isinstance(config.model, ConvNetConfig)
        return by_formulas(config.model) or RememberedShape(config.tasks.by_name, config.target, config.model)
    from avil_fast.tasks.shapes.images import ImageShape

    assert isinstance(config.model, ConvNetConfig)
    return ImageShape(config.tasks, config.model)
