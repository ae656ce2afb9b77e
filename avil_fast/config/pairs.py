"""Settings of the tasks on pairs of images."""

from __future__ import annotations

from typing import Literal

from avil_fast.config.base import Count, DiskPath, Section


class PairsConfig(Section):
    """Sizes of the image-pair tasks."""

    source: str
    train: Count = 100
    """Labelled pairs of the target."""
    auxiliary_train: Count = 1000
    """Labelled pairs of each auxiliary."""
    dev: Count = 100
    test: Count = 2000
    auxiliaries: tuple[Literal["lower_right", "upper_left_high", "random_labels"], ...] = (
        "lower_right",
        "upper_left_high",
        "random_labels",
    )


class DigitsConfig(PairsConfig):
    """Pairs of overlapping handwritten digits, 8x8, from scikit-learn's bundled set."""

    source: Literal["digits"] = "digits"


class IdxConfig(PairsConfig):
    """Pairs of overlapping images from idx files, such as MNIST and Fashion-MNIST."""

    source: Literal["idx"] = "idx"
    folder: DiskPath
    """Holds train-images-idx3-ubyte and its three companions, plain or gzipped."""
