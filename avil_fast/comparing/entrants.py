"""What takes part in a comparison of methods: a method, a preset of αVIL, or one of them with other settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from avil_fast.config.presets import PRESETS
from avil_fast.errors import AvilError
from avil_fast.methods import METHODS
from avil_fast.names import repeated


@dataclass(frozen=True)
class Entrant:
    """One of them.

    Attributes:
        name: as it was given, such as "multitask" or "avil:alpha.steps=5,rounds=6".
        overrides: the settings that make it.
    """

    name: str
    overrides: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name as a folder's."""
        return re.sub(r"[^\w.+-]+", "_", self.name)


def parse(text: str) -> list[Entrant]:
    """Entrants from names with commas in between; settings of one follow it after a colon.

    Raises:
        AvilError: there is no such method, one is named twice, or has a setting that the comparison sets.
    """
    entrants: list[Entrant] = []
    for part in _parts(text):
        name, _, settings = part.partition(":")
        if name not in METHODS and name not in PRESETS:
            names = ", ".join([*METHODS, *(preset for preset in PRESETS if preset != "default")])
            raise AvilError(f"--methods names {name!r}, but the methods are {names}; name some of them")
        for setting in _split(settings):
            if (own := setting.partition("=")[0].strip()) in ("method", "output_dir", "seed"):
                raise AvilError(f"--methods has {part!r}, but a comparison sets {own} itself; leave it out")
        method = [f"method={name}"] if name in METHODS else ["method=avil", f"preset={name}"]
        entrants.append(Entrant(part, (*method, *_split(settings))))
    if not entrants:
        raise AvilError("--methods is empty; name some, such as --methods avil,multitask,single")
    if (folder := repeated([entrant.folder for entrant in entrants])) is not None:
        twice = next(entrant.name for entrant in entrants if entrant.folder == folder)
        raise AvilError(f"--methods names {twice!r} twice; name it once")
    return entrants


def _parts(text: str) -> Sequence[str]:
    """Split at commas, except those between the settings of one."""
    parts: list[str] = []
    for piece in _split(text):
        if parts and ":" in parts[-1] and "=" in piece and ":" not in piece.partition("=")[0]:
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return parts


def _split(text: str) -> list[str]:
    """Split at commas, except those within a list or a mapping; no piece is empty."""
    pieces, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece.strip() for piece in pieces if piece.strip()]
