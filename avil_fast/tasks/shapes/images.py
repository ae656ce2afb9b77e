"""The built-in network for pairs of images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from avil_fast.config.model import ConvNetConfig
from avil_fast.config.pairs import DigitsConfig, IdxConfig
from avil_fast.tasks.convnet import ConvNet
from avil_fast.tasks.pairs import TARGET
from avil_fast.tasks.shapes.base import Kept, Pass, Shape, Sizes
from avil_fast.tasks.shapes.counting import count, traced

CLASSES = 10
DIGITS_SIDE, IDX_SIDE = 8, 28


class ImageShape(Shape):
    """A ConvNet for these tasks; images of idx files are taken to be 28 x 28 of 10 classes, as MNIST's are."""

    tokens = 1

    def __init__(self, config: DigitsConfig | IdxConfig, model: ConvNetConfig) -> None:
        image = DIGITS_SIDE if isinstance(config, DigitsConfig) else IDX_SIDE
        self.notes = [] if isinstance(config, DigitsConfig) else ["images are taken to be 28 x 28, of 10 classes"]
        self._side = image + image // 2
        self._model = model
        self._outputs = {TARGET: CLASSES}
        self._outputs |= {name: 2 if name == "upper_left_high" else CLASSES for name in config.auxiliaries}
        with torch.device("meta"):
            network = self._network()
        heads = [sum(p.numel() for p in network.heads[name].parameters()) for name in self._outputs]
        trained, frozen, buffers, largest = count(network)
        self.sizes = Sizes(trained - sum(heads), heads, frozen, buffers, 4, largest)

    def kept(self, examples: int, kind: Pass) -> Kept:
        def make() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
            images = torch.zeros(examples, 1, self._side, self._side)
            labels = torch.zeros(examples, dtype=torch.int64)
            return self._network(), lambda model: functional.cross_entropy(model(images, TARGET), labels)

        return Kept(traced(make, kind), f"counted for {examples} images of {self._side} x {self._side}")

    def _network(self) -> ConvNet:
        return ConvNet(self._side, self._outputs, width=self._model.width, dropout=self._model.dropout)
