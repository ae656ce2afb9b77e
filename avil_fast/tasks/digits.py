"""Handwritten digits, 8x8, 1,797 of them, bundled with scikit-learn."""

from __future__ import annotations

import torch
from torch import nn

from avil_fast.config.model import ConvNetConfig
from avil_fast.config.pairs import DigitsConfig
from avil_fast.tasks import pairs
from avil_fast.tasks.task import Task

SPLITS = (1000, 300, 497)
"""Single digits for train, dev and test pairs."""


def build(config: DigitsConfig, model: ConvNetConfig, seed: int) -> tuple[nn.Module, list[Task]]:
    """Tasks on pairs of digits and a model for them."""
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    images = pairs.Images(
        torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target, dtype=torch.int64)
    )
    train, dev, test = images.split(SPLITS, seed)
    return pairs.build({"train": train, "dev": dev, "test": test}, config, model, seed)
