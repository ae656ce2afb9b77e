"""Where a model of transformers lies: `model.path` to what transformers is given."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from avil_fast.errors import AvilError
from avil_fast.names import is_plain

HUB = "hub:"

_NETWORK = {"ConnectError", "ConnectionError", "ConnectTimeout", "LocalEntryNotFoundError", "OfflineModeIsEnabled"}
"""Errors of the packages that fetch, by name, as they are of other packages from release to release."""


def hub_advice(error: BaseException | None, otherwise: str) -> str:
    """What to do after an error of fetching: another thing where it is that of a missing network."""
    while error is not None:
        if type(error).__name__ in _NETWORK:
            return "there is no network to the hub; give a local folder"
        error = error.__cause__ or error.__context__
    return otherwise


def resolve(path: str) -> tuple[str, bool]:
    """(folder or hub name, whether anything may be fetched) for a `model.path`.

    Tried in this order: `hub:OWNER/NAME`; a folder; a folder within an installed Python package, which is
    not imported for it.

    Raises:
        AvilError: there is no such folder, or it names files out of it.
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
    for index in (*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")):
        _require_own_files(path, index)
    return str(folder), False


def _require_own_files(path: str, index: Path) -> None:
    """Refuse an index of weights that sends transformers to files out of its folder."""
    try:
        names = list(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AvilError(f"model.path is {path!r}, but its {index.name} is no index; fetch it again") from error
    if strange := [name for name in names if not is_plain(name)]:
        raise AvilError(
            f"model.path is {path!r}, but its {index.name} names {strange[0]!r}, which is not within the folder; "
            f"do not use it"
        )


def package_of(path: str) -> str | None:
    """The installed package that a `model.path` lies within; None for a folder or a hub's name."""
    package = Path(path).parts[0] if Path(path).parts else ""
    if path.startswith(HUB) or Path(path).is_dir() or not package.isidentifier():
        return None
    found = importlib.util.find_spec(package)
    return package if found and found.origin else None  # a folder of that name here has no origin


def _within_package(path: str) -> Path:
    package, *below = Path(path).parts or ("",)
    if not package.isidentifier() or ".." in below:
        raise AvilError(
            f"model.path is {path!r}, but there is no such folder{_here(path)}; check it, or write "
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
    raise AvilError(  # no command to install it with: whoever mistypes a path must not run one
        f"model.path is {path!r}, but there is no such folder{_here(path)}, and no installed package is called "
        f"{package}; check it, write {HUB}OWNER/NAME to fetch a model, or install the package that the model is in"
    )


def _here(path: str) -> str:
    """Where a relative path was looked for, for the end of "there is no such folder"."""
    return "" if Path(path).is_absolute() else f" in {str(Path.cwd())!r}"
