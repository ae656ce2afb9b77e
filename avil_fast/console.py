"""What the command shows in a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from avil_fast.engine.clock import PARTS
from avil_fast.observer import Observer
from avil_fast.progress import reporting
from avil_fast.report.advice import advice
from avil_fast.report.formatting import rejected
from avil_fast.report.headline_metric import SEEN, held_out, shown
from avil_fast.report.place import REPORT
from avil_fast.stdout import RunConsole

if TYPE_CHECKING:
    from avil_fast.run.training import Result


WIDE = 10_000
"""Columns of what is no terminal: no table is cut to fit."""


class Console:
    """Writes to stdout, unless it is `quiet`.

    Args:
        of_run: what it says goes with a run, which goes on where stdout cannot be written.
    """

    def __init__(self, quiet: bool = False, of_run: bool = False) -> None:
        kind = RunConsole if of_run else rich.console.Console
        self._rich = kind(highlight=False, markup=False, quiet=quiet)
        if not self._rich.is_terminal:
            self._rich.width = WIDE

    def running(self, method: str, rounds: int) -> AbstractContextManager[Observer]:
        """Show a run's progress while it goes on: a bar on a terminal, else lines."""
        return reporting(method, rounds, self._rich)

    def say(self, sentence: str | Text) -> None:
        """A line of its own, however long."""
        self._rich.print(sentence, soft_wrap=True)

    def table(
        self,
        head: Sequence[str],
        rows: Iterable[Sequence[str]],
        left: Collection[str] = (),
        title: str | None = None,
        whole: Collection[str] = (),
    ) -> None:
        """Rows under their head: the columns of `left` begin at the left, and those of `whole` are not wrapped."""
        if title is not None:
            self.say(Text(title, style="italic"))
        table = Table()
        for name in head:
            table.add_column(name, justify="left" if name in left else "right", no_wrap=name in whole)
        for row in rows:
            table.add_row(*row)
        self._rich.print(table)

    def facts(self, facts: Mapping[str, str]) -> None:
        """What is known of one thing, a row for each."""
        table = Table(show_header=False)
        for row in facts.items():
            table.add_row(*row)
        self._rich.print(table)

    def result(self, result: Result, folder: Path | None) -> None:
        """The answer: the target's metric beside the baselines', what α said, where the report lies."""
        summary = result.summary
        metric = summary["metric"]
        named = [(summary["method"], summary), *summary["baselines"].items()]
        runs = [run for _, run in named]
        rows = []
        for name, run in named:
            on_target = run["steps"][result.target]
            on_others = sum(run["steps"].values()) - on_target
            rows.append(
                [name, *figures(run, metric, runs), str(on_target), str(on_others), f"{run['seconds']:.1f}"]
            )
        measured = metric["name"] if metric else "loss"
        head = ["method", f"test {measured}", f"dev {measured}", "steps on target", "on auxiliaries", "seconds"]
        self.table(head, rows, left=["method"], title=f"target {result.target}")
        columns = _learned(summary, result.history)
        self.table(
            ["task", *columns],
            [[name, *(column[name] for column in columns.values())] for name in result.tasks],
            left=["task"],
            title="what was learned about the tasks",
        )
        if sentence := rejected(summary):
            self.say(sentence)
        if verdict := advice(summary, result.history):
            self.say(verdict)
        self.say(_time(result.history))
        self.say(_memory(summary))
        if folder is not None:
            self.say(f"report: {folder / REPORT}")


def figures(run: dict[str, Any], metric: dict[str, Any] | None, runs: Iterable[dict[str, Any]]) -> list[str]:
    """A run's metric, or its loss where there is none, on test and on dev, as it stands among the runs."""
    kind = "metric" if metric else "loss"
    test, dev = (shown(run[f"{split}_{kind}"], metric, runs) for split in ("test", "dev"))
    return [test, dev if held_out(run) else SEEN]


def _learned(summary: dict[str, Any], history: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Columns by their heads, each with a cell for every task."""
    columns = {"mean α": {name: f"{alpha:.2f}" for name, alpha in summary["alpha_mean"].items()}}
    weight = summary["weight_last"]
    if summary["share_last"]:  # by α, as a part of the target's; weights decide, too
        parts = {name: share * weight[name] for name, share in summary["share_last"].items()}
        whole = sum(parts.values())
        columns["share of steps"] = {name: f"{100 * part / whole:.0f} %" for name, part in parts.items()}
    if any(value != 1.0 for row in history for value in row["weight"].values()):  # else weights.rule is off
        columns["final weight"] = {name: f"{value:.2f}" for name, value in weight.items()}
    return columns


def _time(history: Sequence[dict[str, Any]]) -> str:
    """Where the rounds' time went."""
    total = sum(row["seconds"]["total"] for row in history)
    shares = {what: sum(row["seconds"][part] for row in history) / total for part, what in PARTS.items()}
    parts = ", ".join(f"{what} {100 * share:.1f} %" for what, share in shares.items())
    return f"a round: {total / len(history):.2f} s; {parts}"


def _memory(summary: dict[str, Any]) -> str:
    """What αVIL needs beyond plain training."""
    base, bank = (decimal(summary["memory"][part]) for part in ("base", "bank"))
    where = "" if summary["ranks"] == 1 else f" on each of {summary['ranks']} ranks"
    return f"memory beyond training{where}: {base} for θ, {bank} for the deltas"
