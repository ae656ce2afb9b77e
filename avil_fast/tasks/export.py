"""How a result is saved, so that others can load it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Export:
    """A layout for the folder `model` of a run.

    Attributes:
        name: a parameter's name in the file, by its name in the model that was trained; None leaves it out.
        write: writes what belongs beside the weights into a folder, on the first rank alone.
        file: the weights' name, without its ending.
    """

    name: Callable[[str], str | None] = lambda name: name
    write: Callable[[Path], None] = lambda folder: None
    file: str = "model"
