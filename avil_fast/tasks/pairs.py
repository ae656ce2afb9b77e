"""Image-pair tasks: two overlapping images on one canvas, and questions about either of them.

In the manner of MultiMNIST (Sabour et al., 2017): the target names the upper-left image with few
labelled examples; auxiliaries name the lower-right one, say whether the upper-left one's class is in the
upper half, or ask for random labels, which a good method learns to ignore.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from avil_fast.config.model import ConvNetConfig
from avil_fast.config.pairs import PairsConfig
from avil_fast.errors import AvilError
from avil_fast.randomness import derive_seed
from avil_fast.tasks.convnet import ConvNet
from avil_fast.tasks.task import Task

TARGET = "upper_left"


@dataclass(frozen=True)
class Images:
    """Single images in [0, 1], [count, height, width] fp32, and their labels, [count] int64."""

    pixels: Tensor
    labels: Tensor

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    def split(self, counts: tuple[int, ...], seed: int) -> list[Images]:
        """Disjoint random parts of the given sizes."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "split"))
        order = torch.randperm(len(self.labels), generator=generator)
        parts = torch.split(order[: sum(counts)], list(counts))
        return [Images(self.pixels[part], self.labels[part]) for part in parts]


def build(
    splits: dict[str, Images], config: PairsConfig, model: ConvNetConfig, seed: int
) -> tuple[nn.Module, list[Task]]:
    """The tasks, target first, and a freshly initialised model for them.

    Args:
        splits: single images for "train", "dev" and "test", disjoint, so that no image leaks.
        config: sizes and which auxiliaries.
        model: the network's settings.
        seed: of the pairs and of the initial weights.
    """
    classes = splits["train"].classes
    for name, images in splits.items():
        if len(images.labels) and not 0 <= int(images.labels.min()) <= int(images.labels.max()) < classes:
            bad = int(images.labels.min()) if int(images.labels.min()) < 0 else int(images.labels.max())
            raise AvilError(
                f"the {name} images have label {bad}, but the train images' are 0 to {classes - 1}; check that "
                f"the files in tasks.folder belong together"
            )
    tasks = [_target(splits, config, seed)]
    outputs = {TARGET: classes}
    for name in config.auxiliaries:
        outputs[name] = 2 if name == "upper_left_high" else classes
        pairs = Pairs.draw(splits["train"], config.auxiliary_train, derive_seed(seed, name))
        tasks.append(_task(name, TensorDataset(pairs.pixels, pairs.labels_for(name, classes, seed))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "model"))
        side = int(tasks[0].train[0][0].shape[-1])  # type: ignore[index]
        network = ConvNet(side, outputs, width=model.width, dropout=model.dropout)
    return network, tasks


@dataclass(frozen=True)
class Pairs:
    """Canvases, [count, 1, side, side] fp32, and the labels of both images on them."""

    pixels: Tensor
    upper_left: Tensor
    lower_right: Tensor

    @classmethod
    def draw(cls, images: Images, count: int, seed: int) -> Pairs:
        """`count` random pairs; the second image is shifted by half its size, brighter pixels win."""
        generator = torch.Generator().manual_seed(seed)
        first, second = torch.randint(len(images.labels), (2, count), generator=generator)
        height, width = images.pixels.shape[1:]
        down, right = height // 2, width // 2
        canvas = torch.zeros(count, 1, height + down, width + right)
        canvas[:, 0, :height, :width] = images.pixels[first]
        corner = canvas[:, 0, down:, right:]
        corner.copy_(torch.maximum(corner, images.pixels[second]))
        return cls(canvas, images.labels[first], images.labels[second])

    def labels_for(self, task: str, classes: int, seed: int) -> Tensor:
        """What a task asks about these pairs."""
        match task:
            case "upper_left":
                return self.upper_left
            case "lower_right":
                return self.lower_right
            case "upper_left_high":
                return (self.upper_left >= classes // 2).long()
            case "random_labels":
                generator = torch.Generator().manual_seed(derive_seed(seed, task, "labels"))
                return torch.randint(classes, self.upper_left.shape, generator=generator)
        raise AvilError(f"there is no image-pair task {task!r}; see tasks.auxiliaries in avil-fast schema")


def _target(splits: dict[str, Images], config: PairsConfig, seed: int) -> Task:
    sets = {}
    for split, count in (("train", config.train), ("dev", config.dev), ("test", config.test)):
        pairs = Pairs.draw(splits[split], count, derive_seed(seed, TARGET, split))
        sets[split] = TensorDataset(pairs.pixels, pairs.upper_left)
    return _task(TARGET, **sets)


def _task(
    name: str, train: TensorDataset, dev: TensorDataset | None = None, test: TensorDataset | None = None
) -> Task:
    def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        pixels, labels = batch
        return functional.cross_entropy(model(pixels, name), labels)

    def accuracy(model: nn.Module, batch: list[Tensor]) -> Tensor:
        pixels, labels = batch
        correct: Tensor = model(pixels, name).argmax(dim=1) == labels
        return correct

    return Task(name, train, loss, dev=dev, test=test, metric=accuracy, head=f"heads.{name}")
