"""What a run says of its progress: a bar on a terminal, and lines elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import rich.console
import torch

from avil_fast import progress
from avil_fast.progress import reporting


class Clock:
    """A time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def file(terminal: bool = False, width: int = 200) -> tuple[rich.console.Console, io.StringIO]:
    written = io.StringIO()
    return rich.console.Console(
        file=written, force_terminal=terminal, width=width, markup=False, highlight=False
    ), written


def row(round_: int, alpha: dict[str, float] | None = None, **more: Any) -> dict[str, Any]:
    found = alpha or {"mood": 1.0, "news": 0.0}
    return {
        "round": round_,
        "alpha": found,
        "alpha_path": [list(alpha.values())] if alpha else [],
        "dev_loss": 0.5 / round_,
        "rejected_steps": {"mood": 0, "news": 0},
    } | more


def test_a_run_that_is_logged_says_where_it_is(clock: Clock) -> None:
    console, written = file(width=40)
    with reporting("single_all", 4, console) as observer:
        observer.planned(10, 20)
        for round_ in range(1, 5):
            clock.now += 60
            for step in range(1, 11):
                observer.progress("mood", step, 10, torch.tensor(1.0))
            observer.round(row(round_, dev_held_out=round_ == 1, rejected_steps={"mood": round_ // 4, "news": 1}))
    assert written.getvalue().splitlines() == [
        "single_all: 4 rounds of about 10 steps, then 20 steps of fine-tune",
        "single_all: round 1 of 4, dev loss 0.500, 1 step rejected, about 5:00 left",
        "single_all: round 2 of 4, dev loss 0.250 (trained on), 1 step rejected, about 4:00 left",
        "single_all: round 3 of 4, dev loss 0.167 (trained on), 1 step rejected, about 3:00 left",
        "single_all: round 4 of 4, dev loss 0.125 (trained on), 2 steps rejected, about 2:00 left",
    ]


def test_many_short_rounds_do_not_flood_a_log(clock: Clock) -> None:
    console, written = file()
    with reporting("avil", 500, console) as observer:
        observer.planned(10, 0)
        for round_ in range(1, 501):
            clock.now += 0.125
            observer.round(row(round_))
    lines = written.getvalue().splitlines()
    assert len(lines) == 1 + 500 // 40 + 1  # the start, one in five seconds, the last
    assert lines[1].startswith("avil: round 40 of 500, ")
    assert lines[-1] == "avil: round 500 of 500, dev loss 0.001"


def test_rounds_that_were_done_before_do_not_count_for_the_pace(clock: Clock) -> None:
    console, written = file()
    with reporting("avil", 4, console) as observer:
        observer.resumed(Path("run/checkpoint"), {"round": 2, "phase": "round done"}, [row(1), row(2)])
        observer.planned(10, 0)
        clock.now += 60
        observer.round(row(3))
    going_on, _, third = written.getvalue().splitlines()
    assert going_on == "going on from run/checkpoint: round 2, round done"
    assert third.endswith("about 1:00 left")


def test_a_quiet_console_gets_no_lines(clock: Clock) -> None:
    console, written = file()
    console.quiet = True
    with reporting("avil", 1, console) as observer:
        observer.planned(10, 0)
        observer.round(row(1))
    assert written.getvalue() == ""


@pytest.mark.parametrize(
    ("width", "alpha", "shown", "not_shown"),
    [
        (200, {"mood": 0.96, "news": 1.0}, "α mood 0.96, news 1.00", "α 0.96"),
        (100, {"mood": 0.96, "news": 1.0, "a task with a name that is long": 0.5}, "α 0.96 1.00 0.50", "news"),
        (200, None, "dev loss 0.500", "α"),
    ],
)
def test_the_bar_shows_alpha_by_task_if_it_was_learned(
    width: int, alpha: dict[str, float] | None, shown: str, not_shown: str
) -> None:
    console, written = file(terminal=True, width=width)
    with reporting("avil", 2, console) as observer:
        observer.planned(10, 0)
        observer.round(row(1, alpha))
    assert shown in written.getvalue()
    assert not_shown not in written.getvalue()
