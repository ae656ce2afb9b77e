"""A small convolutional network with one head per task."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

FEATURES = 64
"""Hidden units of a head."""


class ConvNet(nn.Module):
    """Three shared convolutions, and for each task a hidden layer with a linear classifier.

    The hidden layers are the heads' own, because the tasks look at different places on the canvas: what
    they share is strokes, not positions.

    Args:
        side: height and width of the one-channel images.
        outputs: classes by task.
        width: channels of the first convolution.
        dropout: on the hidden layer.
    """

    def __init__(self, side: int, outputs: Mapping[str, int], *, width: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        features = 2 * width * (side // 4) ** 2
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Linear(features, FEATURES),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                    nn.Linear(FEATURES, classes),
                )
                for task, classes in outputs.items()
            }
        )

    def forward(self, images: Tensor, task: str) -> Tensor:
        """Logits [batch, classes] of a task for images [batch, 1, side, side]."""
        logits: Tensor = self.heads[task](self.encoder(images))
        return logits
