"""A small convolutional network with one linear head per task."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

FEATURES = 64


class ConvNet(nn.Module):
    """Two convolutions, one hidden layer, and a head for each task.

    Args:
        side: height and width of the one-channel images.
        outputs: classes by task.
        width: channels of the first convolution.
        dropout: on the hidden features.
    """

    def __init__(self, side: int, outputs: Mapping[str, int], *, width: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (side // 4) ** 2, FEATURES),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.heads = nn.ModuleDict({task: nn.Linear(FEATURES, classes) for task, classes in outputs.items()})

    def forward(self, images: Tensor, task: str) -> Tensor:
        """Logits [batch, classes] of a task for images [batch, 1, side, side]."""
        logits: Tensor = self.heads[task](self.encoder(images))
        return logits
