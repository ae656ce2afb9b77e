"""What is shown of settings and names in a page that is given away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_FILE = "file:"
_TEXTS = {"prompt", "completion", "separator", "labels"}
"""Settings that are no paths, whatever they begin with."""


def plain(value: object) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]()<>#|~&$])", r"\\\1", " ".join(str(value).split()))


def hidden(value: Any, name: str = "") -> Any:
    """Settings with nothing but the last part of absolute paths, which tell about somebody's machine."""
    if isinstance(value, Mapping):
        return {key: hidden(of_key, str(key)) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(item, name) for item in value]
    return without_folders(value) if isinstance(value, str) and name not in _TEXTS else value


def without_folders(path: str) -> str:
    """The last part of an absolute path; what is none as it is."""
    if path.startswith(_FILE):
        path = path.removeprefix(_FILE)
    elif not (PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or path.startswith("~")):
        return path
    return PureWindowsPath(path).name or "/"
