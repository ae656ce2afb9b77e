"""A small convolutional network with one linear head per task."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Four shared convolutions; a head is linear, so that what one task learns about strokes serves all.

    Every other one has stride 2 in place of pooling (Springenberg et al., arXiv 1412.6806): fewer multiplications.

    Args:
        side: height and width of the one-channel images.
        outputs: classes by task.
        width: channels of the first convolution; the last ones have twice as many.
        dropout: on the features that a head reads.
    """

    def __init__(self, side: int, outputs: Mapping[str, int], *, width: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_layer(1, width),
            *_layer(width, width, stride=2),
            *_layer(width, 2 * width),
            *_layer(2 * width, 2 * width, stride=2),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        features = 2 * width * math.ceil(side / 4) ** 2
        self.heads = nn.ModuleDict({task: nn.Linear(features, classes) for task, classes in outputs.items()})

    def forward(self, images: Tensor, task: str) -> Tensor:
        """Logits [batch, classes] of a task for images [batch, 1, side, side]."""
        logits: Tensor = self.heads[task](self.encoder(images))
        return logits


def _layer(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """A convolution, normalised without regard to the other examples of a batch."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(4, outputs), nn.ReLU()
