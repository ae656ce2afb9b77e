"""Settings of the tasks on pairs of images."""

from __future__ import annotations

from typing import Literal

from avil_fast.config.base import Count, DiskPath, Section


class PairsConfig(Section):
    """Sizes of the image-pair tasks."""

    source: str
    """Where the tasks come from."""
    train: Count = 100
    """Labelled pairs in the target's train set."""
    auxiliary_train: Count = 1000
    """Labelled pairs in the train set of each auxiliary."""
    dev: Count = 100
    """Labelled pairs in the target's dev set."""
    test: Count = 2000
    """Labelled pairs in the target's test set."""
    auxiliaries: tuple[Literal["lower_right", "upper_left_high", "random_labels"], ...] = (
        "lower_right",
        "upper_left_high",
        "random_labels",
    )
    """Which tasks train beside the target: the class of the lower-right image, whether that of the upper-left one
    is in the upper half, random labels."""


class DigitsConfig(PairsConfig):
    """Pairs of overlapping handwritten digits, 8x8, from scikit-learn's bundled set."""

    source: Literal["digits"] = "digits"
    """Where the tasks come from."""


class IdxConfig(PairsConfig):
    """Pairs of overlapping images from idx files, such as MNIST and Fashion-MNIST."""

    source: Literal["idx"] = "idx"
    """Where the tasks come from."""
    folder: DiskPath
    """Folder that holds train-images-idx3-ubyte and its three companions, plain or gzipped."""
