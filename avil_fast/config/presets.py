"""Presets: settings that lie between a field's default and what the user's file says."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # αVIL to the letter (arXiv 2405.07769, Algorithm 1): passes over a sampled fraction of each task's
    # data on the weighted loss, α from 1 by plain gradient descent, w_i + (α_i - 1), no bounds and no
    # fine-tuning. SGD, because a loss weight does nothing under Adam.
    "paper": {
        "steps_per_task": "proportional",
        "keep": "best",
        "optimizer": {"name": "sgd", "lr": 0.05, "moments": "reset"},
        "alpha": {
            "optimizer": "sgd",
            "lr": 0.1,
            "init": "one",
            "bounds": None,
            "rounds": None,
            "target_head": "trained",
        },
        "weights": {
            "rule": "additive",
            "lr": 1.0,
            "apply": "loss",
            "normalize": False,
            "bounds": None,
            "target_min": None,
        },
        "finetune": {"epochs": 0},
    },
}
