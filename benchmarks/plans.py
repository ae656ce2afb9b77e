"""Plans of large models: `python -m benchmarks.plans`.

Models of Llama's shape, 8 and 64 tasks, on 1 to 4,096 GPUs with ZeRO 3: from how many on a run fits, and what
takes the most of the memory there. Nothing is measured: these are the figures of `avil-fast plan`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from avil_fast.config import Config, from_settings
from avil_fast.engine.zero.config import resolve
from avil_fast.planning.describe import planned_run
from avil_fast.planning.hardware import GPUS
from avil_fast.planning.memory import PlannedRun, parts, total
from avil_fast.planning.traffic import traffic
from avil_fast.tasks.shapes.base import Shape
from benchmarks import command

MODELS = {
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "7B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "70B": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
    "400B": {
        "hidden_size": 16384,
        "intermediate_size": 53248,
        "num_hidden_layers": 126,
        "num_attention_heads": 128,
    },
}
SHARED = {"model_type": "llama", "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False}
TASKS = (8, 64)
RANKS = tuple(2**power for power in range(13))
TOKENS = 2048
GPU = GPUS["h100"]
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "small": {"deltas": {"dtype": "int8"}, "optimizer": {"moments": "reset"}},
}
"""The defaults; and int8 deltas, with moments that start afresh for every task."""


def plans() -> list[dict[str, Any]]:
    """A row for each model, number of tasks and way: the least GPUs that do, or None, and what is there."""
    rows = []
    for name, settings in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(SHARED | settings), encoding="utf-8")
            shape = planned_run(_config(folder, {}), ranks=1, on_gpu=True).shape
            about = {"model": name, "parameters": shape.sizes.whole}
            for tasks in TASKS:
                for way, changes in WAYS.items():
                    rows.append(about | {"tasks": tasks, "way": way} | _least(folder, shape, tasks, changes))
    return rows


def _least(folder: str, shape: Shape, tasks: int, changes: dict[str, Any]) -> dict[str, Any]:
    for ranks in RANKS:
        config = _config(folder, changes | {"batch_size": ranks}, examples=max(8, ranks))
        zero = resolve({"zero_optimization": {"stage": 3}, "bf16": {"enabled": True}}, config, ranks)
        run = PlannedRun(config, shape, tasks, ranks, zero, on_gpu=True, dev=None)
        held = parts(run)
        size = total(held, "device", True)
        if size <= GPU.memory:
            break
    largest = max((part for part in held if part.place == "device"), key=lambda part: part.nbytes)
    seconds = traffic(run).seconds(GPU, ranks, element=2)
    return {
        "ranks": ranks if size <= GPU.memory else None,
        "bytes": size,
        "largest": largest.name,
        "seconds": sum(seconds.values()),
        "slowest": max(seconds, key=lambda part: seconds[part]),
    }


def _config(folder: str, changes: dict[str, Any], examples: int = 8) -> Config:
    """One example on every GPU, in training and in the α phase."""
    task = {"kind": "language_modelling", "files": folder}
    model = {"path": folder, "max_length": TOKENS, "dtype": "bf16", "gradient_checkpointing": True}
    given = {"target": "a", "tasks": {"a": task}, "model": model, "eval_batch_size": examples}
    return from_settings(given | {"alpha": {"dev_examples": examples}} | changes)


def main() -> None:
    options = command.parser("plans", __doc__).parse_args()
    rows = plans()
    for row in rows:
        print(row)
    command.write(options.json, {"gpu": GPU.name, "memory": GPU.memory, "tokens": TOKENS, "rows": rows})


if __name__ == "__main__":
    main()
