"""What a run shows in a terminal: a progress bar, and a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from avil_fast.api import Result
from avil_fast.checkpoint.inspect import Inspection
from avil_fast.methods.loop import Observer
from avil_fast.report.folder import REPORT
from avil_fast.tasks.task import Task
from avil_fast.tasks.text.overview import Overview


class Console:
    """Writes to stdout, unless it is `quiet`; the bar appears on a terminal only."""

    def __init__(self, quiet: bool = False) -> None:
        self._rich = rich.console.Console(highlight=False, markup=False, quiet=quiet)

    @contextmanager
    def running(self, method: str, rounds: int, tasks: Sequence[Task]) -> Iterator[Observer]:
        """Show a run's progress while it goes on."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
        )
        with Progress(*columns, console=self._rich, disable=not self._rich.is_terminal) as progress:
            bar = progress.add_task(method, total=rounds, state="")
            yield _Bar(progress, bar, list(tasks))

    def result(self, result: Result, folder: Path | None) -> None:
        """The answer: the target's metric beside the baselines', what α said, where the report lies."""
        summary = result.summary
        table = Table(title=f"target {result.target}", title_justify="left")
        table.add_column("method")
        kind = "metric" if summary["metric"] else "loss"
        measured = summary["metric"]["name"] if summary["metric"] else "loss"
        table.add_column(f"test {measured}", justify="right")
        table.add_column(f"dev {measured}", justify="right")
        table.add_column("steps on target", justify="right")
        table.add_column("on auxiliaries", justify="right")
        table.add_column("seconds", justify="right")
        for name, run in ((summary["method"], summary), *summary["baselines"].items()):
            target_steps = run["steps"][result.target]
            table.add_row(
                name,
                _told(run[f"test_{kind}"], summary),
                _told(run[f"dev_{kind}"], summary),
                str(target_steps),
                str(sum(run["steps"].values()) - target_steps),
                f"{run['seconds']:.1f}",
            )
        self._rich.print(table)
        coefficients = Table(title="what was learned about the tasks", title_justify="left")
        coefficients.add_column("task")
        coefficients.add_column("mean α", justify="right")
        coefficients.add_column("final weight", justify="right")
        for name in result.tasks:
            coefficients.add_row(name, f"{summary['alpha_mean'][name]:.2f}", f"{summary['weight_last'][name]:.2f}")
        self._rich.print(coefficients)
        self._rich.print(_time(result.history), soft_wrap=True)
        self._rich.print(_memory(summary), soft_wrap=True)
        if folder is not None:
            self._rich.print(f"report: {folder / REPORT}", soft_wrap=True, markup=False)

    def checkpoint(self, path: Path, found: Inspection, checked: bool) -> None:
        """What a checkpoint is."""
        manifest, config = found.manifest, found.manifest.config
        self._rich.print(str(path), soft_wrap=True, markup=False)
        table = Table(show_header=False)
        tasks = ", ".join(task["name"] for task in manifest.tasks if task["name"] != config["target"])
        table.add_row("run", f"{config['method']} for {config['target']}, with {tasks or 'no auxiliary'}")
        table.add_row("saved", f"{manifest.saved} by avil_fast {manifest.version}")
        table.add_row("where", f"{_where(manifest.where)}, of {config['rounds']} rounds")
        ranks = "1 process" if manifest.ranks == 1 else f"{manifest.ranks} ranks"
        table.add_row("trained by", f"{ranks}, {manifest.engine}")
        parts = sorted(found.parts.items(), key=lambda part: -part[1])
        table.add_row("size", "\n".join([decimal(found.nbytes), *(f"{decimal(n)} {part}" for part, n in parts)]))
        whole = "yes" if checked else "sizes are right; contents were not checked"
        table.add_row("whole", "no" if found.damage else whole)
        self._rich.print(table)

    def data(self, found: Overview) -> None:
        """What a run's data looks like."""
        table = Table()
        table.add_column("task")
        table.add_column("split")
        for name in ("examples", "items", "labels", "tokens", "cut", "repeated"):
            table.add_column(name, justify="right", no_wrap=name in ("labels", "tokens"))
        for split in found.splits:
            table.add_row(
                split.task,
                split.split,
                str(split.examples),
                str(split.items),
                "\n".join(f"{name} {value:g}" for name, value in split.labels.items()) or "–",
                " ".join(map(str, split.tokens.values())),
                f"{split.cut} ({split.cut / split.examples:.0%})" if split.cut else "0",
                str(split.repeated),
            )
        self._rich.print(table)
        self._rich.print("Tokens: the median, 95 % have no more, the longest. Cut: longer than the model reads.")
        self._rich.print("As the model sees them; what is learned is bold.")
        for split in found.splits:
            if split.split == "train":
                line = Text(f"{split.task}: ")
                for part, learned in split.shown:
                    line.append(part, style="bold" if learned else "")
                self._rich.print(line, soft_wrap=True)
        for leak in found.leaks:
            if not leak.stops:
                self._rich.print(f"overlap: {leak.overlap}. {leak.sentence}", soft_wrap=True, markup=False)
        if not found.leaks:
            self._rich.print("No row of the target's dev or test set stands anywhere else.")


def _where(where: dict[str, Any]) -> str:
    """Round, phase, task and step in words."""
    words = [f"round {where['round']}", where["phase"]]
    return ", ".join([*words, *(f"{what} {where[what]}" for what in ("task", "epoch", "step") if what in where)])


class _Bar(Observer):
    def __init__(self, progress: Progress, bar: Any, tasks: list[Task]) -> None:
        self._progress, self._bar, self._tasks = progress, bar, tasks

    def resumed(self, checkpoint: Path, where: dict[str, Any], rounds: int) -> None:
        self._progress.update(self._bar, completed=rounds)
        told = f"going on from {checkpoint}: {_where(where)}"
        self._progress.console.print(told, soft_wrap=True, markup=False)

    def progress(self, task: str, step: int, steps: int) -> None:
        self._progress.update(self._bar, state=f"{task} {step}/{steps}")

    def round(self, row: dict[str, Any]) -> None:
        alpha = " ".join(f"{value:.2f}" for value in row["alpha"].values())
        self._progress.update(self._bar, advance=1, state=f"dev loss {row['dev_loss']:.3f}  α {alpha}")


PARTS = {
    "task_training": "task training",
    "alpha_phase": "dev gradients for α",
    "delta_ops": "deltas",
    "evaluation": "evaluation",
    "data": "data",
    "checkpoints": "checkpoints",
}


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


def _told(value: float | None, summary: dict[str, Any]) -> str:
    """A metric, as percent if it is a fraction."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if summary["metric"] and summary["metric"]["percent"] else f"{value:.4g}"
