"""What the command shows in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from avil_fast.engine.clock import PARTS
from avil_fast.observer import Observer
from avil_fast.progress import bar, in_words
from avil_fast.report.folder import REPORT
from avil_fast.report.formatting import rejected
from avil_fast.report.headline_metric import SEEN, held_out

if TYPE_CHECKING:
    from avil_fast.checkpoint.inspect import Inspection
    from avil_fast.comparing.comparison import Comparison
    from avil_fast.comparing.configs import Compared
    from avil_fast.evaluating import Evaluated
    from avil_fast.planning.plan import Plan
    from avil_fast.tasks.text.overview import Overview
    from avil_fast.training import Result


class Console:
    """Writes to stdout, unless it is `quiet`; the bar appears on a terminal only."""

    def __init__(self, quiet: bool = False) -> None:
        self._rich = rich.console.Console(highlight=False, markup=False, quiet=quiet)

    def running(self, method: str, rounds: int) -> AbstractContextManager[Observer]:
        """Show a run's progress while it goes on."""
        return bar(method, rounds, self._rich)

    def say(self, sentence: str) -> None:
        """A sentence of its own."""
        self._rich.print(sentence, soft_wrap=True)

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
                _told(run[f"dev_{kind}"], summary) if held_out(run) else SEEN,
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
        if told := rejected(summary):
            self._rich.print(told, soft_wrap=True)
        self._rich.print(_time(result.history), soft_wrap=True)
        self._rich.print(_memory(summary), soft_wrap=True)
        if folder is not None:
            self._rich.print(f"report: {folder / REPORT}", soft_wrap=True, markup=False)

    def evaluated(self, found: Evaluated) -> None:
        """A run's model, measured again, beside what the run itself found."""
        summary = {"metric": found.metric}
        kind = "metric" if found.metric else "loss"
        table = Table(title=f"target {found.run.summary['target']}", title_justify="left")
        for name in ("split", "loss", *([found.metric["name"]] if found.metric else []), "the run's own"):
            table.add_column(name, justify="left" if name == "split" else "right")
        for split, measured in found.splits.items():
            own = _told(found.run.summary[f"{split}_{kind}"], summary)
            metric = [_told(measured.metric, summary)] if found.metric else []
            table.add_row(split, f"{measured.loss:.4g}", *metric, own)
        self._rich.print(table)

    def compared(self, found: Compared) -> None:
        """Runs side by side."""
        table = Table()
        for name in ("run", "method", "test", "dev", "steps", "seconds"):
            table.add_column(name, justify="left" if name in ("run", "method") else "right")
        for name, run in found.runs.items():
            summary = run.summary
            kind = "metric" if summary["metric"] else "loss"
            dev = _told(summary[f"dev_{kind}"], summary) if held_out(summary) else SEEN
            values = [_told(summary[f"test_{kind}"], summary), dev]
            steps = str(sum(summary["steps"].values()))
            table.add_row(name, summary["method"], *values, steps, f"{summary['seconds']:.1f}")
        self._rich.print(table)
        self._rich.print(f"report: {found.report}", soft_wrap=True, markup=False)

    def methods(self, found: Comparison) -> None:
        """Methods side by side."""
        from avil_fast.comparing.page import budgets, results

        for made in (results(found), budgets(found)):
            table = Table()
            for name in made.head:
                table.add_column(name, justify="left" if name in ("method", "against") else "right")
            for row in made.rows:
                table.add_row(*row)
            self._rich.print(table)
        self.say(
            f"p: paired t-test over {len(found.seeds)} seeds against the best other method, corrected (Holm)"
            if len(found.seeds) > 1
            else "one seed tells little; give --seeds 5 or more"
        )
        self._rich.print(f"page: {found.page}", soft_wrap=True, markup=False)

    def plan(self, found: Plan) -> None:
        """What a run takes on each rank."""
        sizes, on_gpu = found.sizes, found.gpu is not None
        told = f"{_count(sizes.shared)} shared elements that are trained"
        told += f", {_count(sum(sizes.heads))} in heads" if sum(sizes.heads) else ""
        told += f", {_count(sizes.frozen)} frozen" if sizes.frozen else ""
        kind = f"x {found.gpu.name}" if found.gpu else "CPU processes"
        self.say(f"{told}; {found.tasks} tasks; {found.ranks} {kind}")
        table = Table(title=f"memory of a {'GPU' if on_gpu else 'process'}", title_justify="left")
        for name in ("part", "size", *(["where"] if on_gpu else []), "how it is counted"):
            table.add_column(name, justify="right" if name == "size" else "left")
        largest = max((part for part in found.parts if not part.at_once), key=lambda part: part.nbytes)
        for part in found.parts:
            place = [{"device": "GPU", "host": "CPU"}[part.place]] if on_gpu else []
            counted = part.formula if part.at_once or part is largest else f"{part.formula}; at another time"
            table.add_row(part.name, decimal(round(part.nbytes)), *place, counted)
        self._rich.print(table)
        self.say(_verdict(found))
        moved = found.traffic
        if moved.passes:
            parts = [f"{moved.passes} passes forward and backward over the dev examples"]
            parts += [f"{decimal(round(moved.memory))} read and written by operations on deltas"]
            parts += [f"{decimal(round(moved.network))} received from other ranks"] if moved.network else []
            parts += [f"{decimal(round(moved.bus))} between GPU and CPU"] if moved.bus else []
            self.say(f"αVIL's own work in a round: {', '.join(parts)}")
        if found.seconds:
            times = ", ".join(f"{what} {seconds:.2g} s" for what, seconds in found.seconds.items())
            self.say(f"which takes at least: {times}")
        for note in found.notes:
            self.say(f"note: {note}")

    def checkpoint(self, path: Path, found: Inspection, checked: bool) -> None:
        """What a checkpoint is."""
        manifest, config = found.manifest, found.manifest.config
        self._rich.print(str(path), soft_wrap=True, markup=False)
        table = Table(show_header=False)
        tasks = ", ".join(task["name"] for task in manifest.tasks if task["name"] != config["target"])
        table.add_row("run", f"{config['method']} for {config['target']}, with {tasks or 'no auxiliary'}")
        table.add_row("saved", f"{manifest.saved} by avil_fast {manifest.version}")
        table.add_row("where", f"{in_words(manifest.where)}, of {config['rounds']} rounds")
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


def _verdict(plan: Plan) -> str:
    """Whether a run fits, and what to do if not."""
    size, largest = decimal(round(plan.device)), f"the largest part: {plan.largest.name}"
    if plan.room is None:
        return f"at most {size} in each process; {largest}. With --gpu-memory GB: whether it fits"
    room = decimal(round(plan.room))
    host = f", and {decimal(round(plan.host))} for each in the CPU's memory" if plan.host else ""
    if plan.fits:
        return f"fits: at most {size} of {room}{host}; {largest}"
    told = f"does not fit: {size}, but there are {room}; {largest}."
    if plan.advice is None:
        return f"{told} No setting makes it fit: use model.lora, a lower model.max_length, or more GPUs"
    changes = [f"{change.words} ({change.cost})" for change in plan.advice.changes]
    if plan.advice.ranks > plan.ranks:
        changes.append(f"--gpus {plan.advice.ranks}")
    then = f"then it takes {decimal(round(plan.advice.nbytes))}"
    then += f", and {decimal(round(plan.advice.host))} for each in the CPU's memory" if plan.advice.host else ""
    return f"{told} The cheapest change: {', '.join(changes)}; {then}"


def _count(elements: int) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if elements >= size:
            return f"{elements / size:.3g} {name}"
    return f"{elements:,}"


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
