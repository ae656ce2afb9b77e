"""The file that makes a folder a checkpoint: what it holds, and what every other file must be."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from avil_fast.checkpoint.file_format import Damaged, Record
from avil_fast.errors import reason
from avil_fast.files.replacing import write_whole
from avil_fast.names import is_plain

NAME = "manifest.json"

FORMAT = 2
"""Raised when an older version could not read what this one writes."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is, but for its tensors. All in JSON's types."""

    version: str
    """Of avil_fast."""
    saved: str
    """When, in UTC."""
    where: dict[str, Any]
    """Round, phase, task and step, for people."""
    lasting: bool
    """Kept until there is a newer one of its kind: the end of the rounds."""
    ranks: int
    engine: str
    """What trained: "local", or a ZeRO stage."""
    config: dict[str, Any]
    """Every setting."""
    tasks: list[dict[str, Any]]
    """Names, and how much data they have."""
    parameters: dict[str, list[int]]
    """Shapes by name."""
    buffers: list[list[Any]]
    """Names and shapes."""
    frozen: int | None
    """A checksum of the parameters that are not trained, as the run began with them; see `Engine.frozen`."""
    facts: dict[str, Any]
    """The engine's, see `EngineState`."""
    run: dict[str, Any]
    """The run's, see `Run.state`."""
    extra: dict[str, Any]
    """The caller's, handed back when the run is taken up."""
    files: dict[str, Record]

    def write(self, folder: Path) -> None:
        """Write it whole, last of all files."""
        write_whole(folder / NAME, _text({"format": FORMAT, **asdict(self)}))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a checkpoint.

        Raises:
            Damaged: it cannot be read, is not what was written, or names files that are not in its folder.
        """
        path = folder / NAME
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text)
            found = content.pop("checksum", None) if isinstance(content, dict) else None
            whole = found is not None and _text(content) == text
        except OSError as error:
            raise Damaged(f"{str(path)!r} cannot be read: {reason(error)}") from error
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            raise Damaged(f"{str(path)!r} is damaged: it is not what was written")
        if content.get("format") != FORMAT:
            raise Damaged(
                f"{str(path)!r} was written by avil_fast {content.get('version')} in the format "
                f"{content.get('format')!r}, and this one reads {FORMAT}; go on with the version that wrote it"
            )
        try:
            manifest = TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise Damaged(f"{str(path)!r} is damaged: {place}: {first['msg']}") from error
        for name in manifest.files:
            if not is_plain(name):
                raise Damaged(f"{str(path)!r} names {name!r}, which is not within its folder; do not use it")
        return manifest


def _text(content: dict[str, Any]) -> str:
    """The file's text, which tells its own checksum."""
    checksum = zlib.crc32(json.dumps(content, allow_nan=False).encode())
    return json.dumps({"checksum": checksum} | content) + "\n"
