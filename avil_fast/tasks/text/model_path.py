"""Where an encoder lies: `model.path` to what transformers is given."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from avil_fast.errors import AvilError

HUB = "hub:"


def resolve(path: str) -> tuple[str, bool]:
    """(folder or hub name, whether anything may be fetched) for a `model.path`.

    Tried in this order: `hub:OWNER/NAME`; a folder; a folder within an installed Python package, which is
    not imported for it.

    Raises:
        AvilError: there is no such folder.
    """
    if path.startswith(HUB):
        return path.removeprefix(HUB), True
    folder = Path(path)
    if not folder.is_dir():
        folder = _within_package(path)
    if not (folder / "config.json").is_file():
        raise AvilError(
            f"model.path is {path!r}, but {str(folder)!r} holds no config.json; "
            f"name a folder that transformers saved"
        )
    return str(folder), False


def _within_package(path: str) -> Path:
    package, *below = Path(path).parts or ("",)
    if not package.isidentifier() or ".." in below:
        raise AvilError(
            f"model.path is {path!r}, but there is no such folder; check it, or write "
            f"{HUB}OWNER/NAME to fetch a model"
        )
    found = importlib.util.find_spec(package)
    roots = list(found.submodule_search_locations or ()) if found else []
    for root in roots:
        folder = Path(root, *below)
        if folder.is_dir():
            return folder
    if roots:
        raise AvilError(
            f"model.path is {path!r}, but the installed package {package} has no folder "
            f"{'/'.join(below)!r}; look into {roots[0]!r}"
        )
    raise AvilError(
        f"model.path is {path!r}, but there is no such folder and no installed package {package}; if it comes in "
        f"one, install it with: pip install {package.replace('_', '-')}"
    )
