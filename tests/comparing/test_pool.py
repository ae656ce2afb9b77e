"""Processes, each for one run."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from avil_fast.comparing import over_seeds
from avil_fast.comparing.pool import run_all
from avil_fast.environment import cpus
from avil_fast.errors import AvilError, Stopped
from tests.comparing import jobs

PRELOAD = ("torch",)


def test_every_job_has_a_process_of_its_own_and_its_share_of_threads() -> None:
    found: dict[int, Any] = {}
    run_all([partial(jobs.threads, number) for number in range(3)], 2, found.__setitem__, PRELOAD)
    assert [found[number][0] for number in range(3)] == [0, 1, 2]
    assert {threads for _, threads, _ in found.values()} == {max(1, cpus() // 2)}
    assert len({process for _, _, process in found.values()}) == 3


def test_jobs_share_the_cpus_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7, 8}, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cpus() == over_seeds._at_once() == 4
    found: dict[int, Any] = {}
    run_all([partial(jobs.threads, 0)], 2, found.__setitem__, PRELOAD)
    assert found[0][1] == 2
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert cpus() == 64


@pytest.mark.parametrize(
    ("job", "said"), [(partial(jobs.fail, "lower x"), "lower x"), (jobs.die, "ended with exit code 7")]
)
def test_a_failure_is_told_and_what_goes_on_is_waited_for(job: Any, said: str, tmp_path: Path) -> None:
    others = [partial(jobs.note, tmp_path / "other", 1.0), partial(jobs.note, tmp_path / "never", 0.0)]
    with pytest.raises(AvilError, match=said):
        run_all([job, *others], 2, lambda number, found: None, PRELOAD)
    assert (tmp_path / "other").read_text(encoding="utf-8") == "done"
    assert not (tmp_path / "never").exists()


def test_a_signal_ends_the_jobs_and_no_more_begin(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def stop() -> None:
        while not begun.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    before = signal.getsignal(signal.SIGTERM)
    jobs_ = [partial(jobs.note, begun, 60.0), partial(jobs.note, tmp_path / "never", 0.0)]
    start = time.monotonic()
    with pytest.raises(Stopped, match="the same command goes on"):
        run_all(jobs_, 1, lambda number, found: None, PRELOAD)
    thread.join()
    assert time.monotonic() - start < 50
    assert begun.read_text(encoding="utf-8") == "begun"
    assert not (tmp_path / "never").exists()
    assert signal.getsignal(signal.SIGTERM) is before
