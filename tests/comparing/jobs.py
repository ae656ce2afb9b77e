"""What the processes of the pool's tests do."""

import os
import time
from pathlib import Path

import torch

from avil_fast.errors import AvilError


def threads(number: int) -> tuple[int, int, int]:
    return number, torch.get_num_threads(), os.getpid()


def fail(sentence: str) -> None:
    raise AvilError(sentence)


def die() -> None:
    os._exit(7)


def note(path: Path, seconds: float) -> None:
    path.write_text("begun", encoding="utf-8")
    time.sleep(seconds)
    path.write_text("done", encoding="utf-8")
