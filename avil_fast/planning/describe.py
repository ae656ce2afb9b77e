"""From a configuration to what is known of its run before anything is loaded."""

from __future__ import annotations

from avil_fast.config import Config
from avil_fast.config.model import ConvNetConfig
from avil_fast.config.text_tasks import TextTasksConfig
from avil_fast.engine.factory import zero_of
from avil_fast.errors import AvilError
from avil_fast.planning.memory import PlannedRun
from avil_fast.tasks.shapes.base import Shape


def shape_of(config: Config) -> tuple[list[str], Shape, int | None]:
    """Names of the tasks, the model, and the number of the target's dev examples, if the settings tell it.

    Raises:
        AvilError: there is no such target or model.
    """
    if isinstance(config.tasks, TextTasksConfig):
        from avil_fast.tasks.shapes.formulas import by_formulas
        from avil_fast.tasks.shapes.remembered import RememberedShape

        assert not isinstance(config.model, ConvNetConfig)
        tasks = config.tasks.by_name
        if config.target not in tasks:
            raise AvilError(f"target is {config.target!r}, but the tasks are {', '.join(tasks)}; name one of them")
        target = tasks[config.target]
        dev = target.limits.dev or (target.hold_out.dev if target.hold_out else None)
        shape = by_formulas(config.model) or RememberedShape(tasks, config.target, config.model)
        return list(tasks), shape, dev
    from avil_fast.tasks.pairs import TARGET
    from avil_fast.tasks.shapes.images import ImageShape

    assert isinstance(config.model, ConvNetConfig)
    return [TARGET, *config.tasks.auxiliaries], ImageShape(config.tasks, config.model), config.tasks.dev


def setting_of(config: Config, shape: Shape, tasks: int, dev: int | None, ranks: int, on_gpu: bool) -> PlannedRun:
    """The run on so many ranks.

    Raises:
        AvilError: the DeepSpeed file cannot be used, or the batch is smaller than the ranks.
    """
    return PlannedRun(config, shape, tasks, ranks, zero_of(config, ranks), on_gpu, dev)
