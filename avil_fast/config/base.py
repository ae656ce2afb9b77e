"""What every section of the settings has in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _no_boolean(value: Any) -> Any:
    """Refuse YAML's yes and on, and its no and off, which would pass for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"there is {str(value).lower()}, but it must be a number")
    return value


Number = BeforeValidator(_no_boolean)

Positive = Annotated[float, Field(gt=0), Number]
NonNegative = Annotated[float, Field(ge=0), Number]
Fraction = Annotated[float, Field(ge=0, lt=1), Number]

TOO_LARGE = 2**63
"""For a whole number, as torch and C++ have them."""

Count = Annotated[int, Field(ge=1, lt=TOO_LARGE), Number]
Whole = Annotated[int, Field(ge=0, lt=TOO_LARGE), Number]

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes, on the file systems of Linux."""


def require_path(text: str) -> None:
    """Refuse what no file can be called, which the system would answer with errors of several kinds.

    Raises:
        ValueError: says why.
    """
    try:
        path = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(f"a path cannot have the character {text[error.start]!r} in it; leave it out") from None
    if b"\0" in path:
        raise ValueError("a path cannot have a NUL character in it; leave it out")
    if len(path) > LONGEST_PATH or max(map(len, path.split(b"/"))) > LONGEST_NAME:
        raise ValueError(
            f"a path has at most {LONGEST_NAME} bytes between two / and {LONGEST_PATH} in all; take a shorter one"
        )


def _possible(path: Path) -> Path:
    require_path(str(path))
    return path


DiskPath = Annotated[Path, AfterValidator(_possible)]


class Section(BaseModel):
    """Settings refuse unknown names and are never changed after they were checked."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )
