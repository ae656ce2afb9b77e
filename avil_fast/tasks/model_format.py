"""How a result is saved, so that others can load it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

Named = Iterable[tuple[str, Tensor]]
"""Tensors by name, each good until the next one is asked for."""


@dataclass(frozen=True)
class ModelFormat:
    """A layout for the folder `model` of a run.

    Attributes:
        tensors: those of the file, from the parameters and buffers of the model that was trained, in its order.
        write: writes what belongs beside the weights into the folder, once they are there; on the first rank.
    """

    tensors: Callable[[Named], Named] = lambda tensors: tensors
    write: Callable[[Path], None] = lambda folder: None
