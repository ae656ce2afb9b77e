"""Many runs, some at a time, each in a process of its own that has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any, cast

from avil_fast.environment import cpus
from avil_fast.errors import AvilError, Stopped

Job = Callable[[], Any]


def run_all(jobs: Sequence[Job], at_once: int, done: Callable[[int, Any], None], preload: Sequence[str]) -> None:
    """Call every job, so many at a time, and hand on what it returns as it comes.

    A process is forked from one that has imported `preload` and nothing else has happened in, so that its memory
    and its CPU time are the job's own.

    Args:
        jobs: picklable, what they return too.
        done: called with a job's number and what it returned.

    Raises:
        AvilError: that of a job; the others are waited for, and no more begin.
        Stopped: SIGINT or SIGTERM came; jobs were told, and have ended.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    threads = max(1, cpus() // at_once)
    waiting = deque(enumerate(jobs))
    running: dict[Connection, tuple[int, ForkServerProcess]] = {}
    failed: BaseException | None = None
    stopped = _Stopped()
    with stopped:
        while running or (waiting and failed is None and not stopped.number):
            while waiting and len(running) < at_once and failed is None and not stopped.number:
                number, job = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(job, theirs, threads))
                process.start()
                theirs.close()
                running[ours] = number, process
            for connection in wait(list(running), timeout=0.5):
                connection = cast(Connection, connection)
                number, process = running.pop(connection)
                try:
                    kind, result = connection.recv()
                except EOFError:
                    process.join()
                    code = process.exitcode
                    kind, result = "failed", f"a run's process ended with exit code {code}; see its folder"
                process.join()
                if kind == "done":
                    done(number, result)
                elif kind == "failed":
                    failed = failed or AvilError(result)
            stopped.tell([process.pid for _, process in running.values()])
    if stopped.number:
        raise Stopped(stopped.number, "the same command goes on")
    if failed is not None:
        raise failed


class _Stopped:
    """Notes a signal that is to end all, and tells the processes once."""

    def __init__(self) -> None:
        self.number = 0
        self._told = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.number = number

    def tell(self, processes: Sequence[int | None]) -> None:
        if self.number and not self._told:
            self._told = True
            for process in processes:
                if process is not None:
                    os.kill(process, signal.SIGTERM)


def _work(job: Job, connection: Connection, threads: int) -> None:
    """In the process: the result, or a sentence on what went wrong."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the parent tells this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(threads)
    try:
        connection.send(("done", job()))
    except Stopped:
        connection.send(("stopped", None))
    except AvilError as error:
        connection.send(("failed", str(error)))
