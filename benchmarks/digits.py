"""αVIL against the target alone on the digits, over seeds: `python -m benchmarks.digits`."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from avil_fast import api
from avil_fast.config import Config, load
from avil_fast.tasks.from_config import build
from benchmarks import command

METHODS = ("avil", "single")
USEFUL, USELESS = ("lower_right", "upper_left_high"), "random_labels"


def run(config: Config) -> dict[str, Any]:
    """The summary of one run, as `avil-fast train` makes it."""
    model, tasks, _ = build(config)
    return api.train(model, tasks, config).summary


def spread(values: list[float]) -> dict[str, Any]:
    error = statistics.stdev(values) / len(values) ** 0.5
    return {"mean": statistics.mean(values), "standard_error": error, "values": values}


def main() -> None:
    parser = command.parser("digits", __doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("settings", nargs="*", help="settings that override the default's: key=value")
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    accuracy: dict[str, list[float]] = {method: [] for method in METHODS}
    lowest = 0
    for seed in seeds:
        for method in METHODS:
            settings = [*options.settings, f"seed={seed}", f"method={method}", "output_dir=null"]
            summary = run(load(None, settings))
            accuracy[method].append(summary["test_metric"])
            if method == "avil":
                alpha = summary["alpha_last"]
                lowest += all(alpha[USELESS] < alpha[name] for name in USEFUL)
        print(
            f"seed {seed}: " + ", ".join(f"{method} {accuracy[method][-1]:.3f}" for method in METHODS), flush=True
        )
    result = {
        "torch": torch.__version__,
        "settings": options.settings,
        "seeds": seeds,
        "methods": {method: spread(values) for method, values in accuracy.items()},
        "random_labels_lowest": lowest,
    }
    for method, found in result["methods"].items():
        print(f"{method}: {found['mean']:.3f} ± {found['standard_error']:.3f}")
    print(f"random labels have the lowest final α in {lowest} of {len(seeds)} runs")
    command.write(options.json, result)


if __name__ == "__main__":
    main()
