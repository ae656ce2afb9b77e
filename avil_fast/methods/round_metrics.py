"""What is measured after a round, and its line of metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from avil_fast.engine.base import Engine
from avil_fast.engine.results import Evaluation
from avil_fast.errors import Diverged
from avil_fast.methods.base import RoundRecord
from avil_fast.methods.data import TaskData


def measure_target(engine: Engine, data: TaskData, with_test: bool = True) -> tuple[Evaluation, Evaluation | None]:
    """Measure the target on dev, and on test if it has a test set and `with_test`; None for test otherwise."""
    target = engine.target
    dev = engine.evaluate(target, data.dev(target))
    if engine.tasks[target].test is None or not with_test:
        return dev, None
    return dev, engine.evaluate(target, data.test(target))


def require_finite(name: str, when: str, dev: Evaluation, test: Evaluation | None) -> None:
    """Refuse a dev loss or a metric of the target that is not a finite number.

    Args:
        name: the target's.
        when: in the run, for the message.
    """
    if not math.isfinite(dev.loss):
        raise Diverged(
            f"target {name!r}: its dev loss is {dev.loss} {when}; "
            f"lower optimizer.lr or alpha.lr, or set alpha.bounds"
        )
    for split, found in (("dev", dev), ("test", test)):
        if found is not None and not math.isfinite(found.metric or 0.0):
            raise Diverged(
                f"target {name!r}: its metric on the {split} set is {found.metric} {when}; return finite numbers"
            )


def line_of(
    round_: int,
    record: RoundRecord,
    rejected: Mapping[str, int],
    dev: Evaluation,
    test: Evaluation | None,
    held_out: bool,
    engine: Engine,
    seconds: float,
) -> dict[str, Any]:
    """A line of metrics.jsonl."""

    def by_task(values: Sequence[float | None]) -> dict[str, float | None]:
        names = [task.name for task in engine.tasks]
        return {n: v if v is not None and math.isfinite(v) else None for n, v in zip(names, values, strict=True)}

    parts = engine.take_seconds()
    by_layer = dict(zip(engine.groups, map(by_task, record.alpha_layers), strict=False))
    return {
        "round": round_,
        "alpha": by_task(record.alpha),
        **({"alpha_layers": by_layer} if by_layer else {}),
        "weight": by_task(record.weight),
        **({"share": by_task(record.share), "restarted": record.restarted} if record.share else {}),
        "delta_norm": by_task(record.delta_norm),
        "train_loss": by_task(record.train_loss),
        "dev_loss": dev.loss,
        "dev_metric": dev.metric,
        "dev_held_out": held_out,
        "test_loss": test.loss if test and math.isfinite(test.loss) else None,
        "test_metric": test.metric if test else None,
        "alpha_path": record.alpha_path,
        "cosine": record.cosine,
        "benefit": by_task(record.benefit or [None] * len(engine.tasks)),
        "rejected_steps": {task.name: rejected.get(task.name, 0) for task in engine.tasks},
        "rejected_alpha_steps": record.rejected_alpha_steps,
        "seconds": parts | {"total": seconds},
    }
