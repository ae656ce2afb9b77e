"""One rank of test_ranks: train each case of a JSON file, one after the other.

python -m torch.distributed.run --nproc-per-node 2 -m tests.tasks.text.ranks CASES.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from avil_fast.run import launch

ZERO: dict[str, dict[str, Any]] = {
    "zero2": {"zero_optimization": {"stage": 2}},
    "zero3": {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}},
}


def train(cases: dict[str, Any], folder: Path) -> None:
    """Train every case into folder/CASE; a case is a config, its overrides, and a name in ZERO or None."""
    for name, (config, overrides, zero) in cases.items():
        path = folder / f"{name}.json"
        if zero:
            path.write_text(json.dumps(ZERO[zero]), encoding="utf-8")
        settings = [*overrides, f"output_dir={folder / name}"]
        launch.train(Path(config), settings, path if zero else None)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    train(json.loads(where.read_text(encoding="utf-8")), where.parent)
