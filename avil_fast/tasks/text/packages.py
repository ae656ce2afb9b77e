"""Optional packages of text tasks: presence checks and silenced output."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from avil_fast.errors import AvilError


def require(*packages: str, extra: str = "text") -> None:
    """Refuse to go on without a package that an extra brings.

    Raises:
        AvilError: one is not installed; says how to install it.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise AvilError(
                f"tasks on texts need the package {package}; install it with: pip install 'avil-fast[{extra}]'"
            )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and notes while this lasts; what matters of them is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """Silence the progress bars of the package datasets while this lasts."""
    import datasets

    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if bars:
            datasets.enable_progress_bars()
