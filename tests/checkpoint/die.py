"""A run that is killed at a given moment: python -m tests.checkpoint.die MOMENT NUMBER RANK FOLDER.

Without a launcher it is a run of one process. A MOMENT of "never" lets it end and writes what it found.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from avil_fast.checkpoint import manifest, writing
from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.saver import Saver
from avil_fast.engine.process_group import joined_ranks
from tests.checkpoint.runs import fit, found

MOMENTS: dict[str, tuple[Any, str, bool]] = {
    "point": (Saver, "point", True),
    "file begun": (writing, "write", False),
    "half a file": (writing._Summed, "write", True),
    "file written": (writing, "write", True),
    "before the manifest": (manifest.Manifest, "write", False),
    "half the manifest": (Path, "replace", False),
    "before the name": (Folder, "finish", False),
    "after the name": (Folder, "finish", True),
    "before removing": (Folder, "discard", False),
    "removed": (Folder, "discard", True),
}
"""Where a process can be killed: the owner and the name of a function, and whether it has been called by then."""

IN_BACKGROUND = ("never", "point", "half a file")
"""Otherwise every point is saved, so that the number counts the same in every run."""


def killing(function: Callable[..., Any], number: int, called: bool) -> Callable[..., Any]:
    """The function, which kills the process the `number`-th time."""
    count = [0]

    def wrapped(*args: Any, **options: Any) -> Any:
        count[0] += 1
        if count[0] == number and not called:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **options)
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def main(moment: str, number: int, victim: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if moment != "never" and int(os.environ.get("RANK", "0")) == victim:
        owner, name, called = MOMENTS[moment]
        wrapped = killing(getattr(owner, name), number, called)
        setattr(owner, name, wrapped)
        if name == "write" and owner is writing:  # pending.py has it by name
            sys.modules["avil_fast.checkpoint.pending"].write = wrapped  # type: ignore[attr-defined]
    with joined_ranks(torch.device("cpu"), timeout=600) as ranks:
        resume = "auto" if (folder / "run").exists() else None
        result = fit(
            folder / "run", resume=ranks.on_first(lambda: resume), data="augmented", **{"checkpoints.minutes": 0}
        )
    (folder / f"found.{ranks.rank}").write_text(json.dumps(found(result)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
