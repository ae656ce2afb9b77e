"""What the command shows in a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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
from avil_fast.report.formatting import NONE, number, rejected
from avil_fast.report.headline_metric import SEEN, held_out, shown

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

    def _table(
        self,
        head: Sequence[str],
        rows: Iterable[Sequence[str]],
        left: Collection[str] = (),
        title: str | None = None,
        whole: Collection[str] = (),
    ) -> None:
        """Rows under their head: the columns of `left` begin at the left, and those of `whole` are not wrapped."""
        table = Table(title=title, title_justify="left")
        for name in head:
            table.add_column(name, justify="left" if name in left else "right", no_wrap=name in whole)
        for row in rows:
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
            figures = _figures(run, metric, runs)
            rows.append([name, *figures, str(on_target), str(on_others), f"{run['seconds']:.1f}"])
        measured = metric["name"] if metric else "loss"
        head = ["method", f"test {measured}", f"dev {measured}", "steps on target", "on auxiliaries", "seconds"]
        self._table(head, rows, left=["method"], title=f"target {result.target}")
        self._table(
            ["task", "mean α", "final weight"],
            [
                [name, f"{summary['alpha_mean'][name]:.2f}", f"{summary['weight_last'][name]:.2f}"]
                for name in result.tasks
            ],
            left=["task"],
            title="what was learned about the tasks",
        )
        if sentence := rejected(summary):
            self.say(sentence)
        self.say(_time(result.history))
        self.say(_memory(summary))
        if folder is not None:
            self.say(f"report: {folder / REPORT}")

    def evaluated(self, evaluated: Evaluated) -> None:
        """A run's model, measured again, beside what the run itself found."""
        metric, summary = evaluated.metric, evaluated.run.summary
        rows = []
        for split, measured in evaluated.splits.items():
            again = [shown(measured.metric, metric, [summary])] if metric else []
            before = shown(summary[f"{split}_{'metric' if metric else 'loss'}"], metric, [summary])
            rows.append([split, number(measured.loss), *again, before])
        head = ["split", "loss", *([metric["name"]] if metric else []), "the run's own"]
        self._table(head, rows, left=["split"], title=f"target {summary['target']}")

    def compared(self, compared: Compared) -> None:
        """Runs side by side."""
        rows = []
        for name, run in compared.runs.items():
            summary = run.summary
            figures = _figures(summary, summary["metric"], [summary])
            steps = str(sum(summary["steps"].values()))
            rows.append([name, summary["method"], *figures, steps, f"{summary['seconds']:.1f}"])
        self._table(["run", "method", "test", "dev", "steps", "seconds"], rows, left=["run", "method"])
        self.say(f"report: {compared.report}")

    def methods(self, comparison: Comparison) -> None:
        """Methods side by side."""
        from avil_fast.comparing.page import budgets, results

        for table in (results(comparison), budgets(comparison)):
            self._table(table.head, table.rows, left=["method", "against"])
        self.say(
            f"p: paired t-test over {len(comparison.seeds)} seeds against the best other method, corrected (Holm)"
            if len(comparison.seeds) > 1
            else "one seed tells little; give --seeds 5 or more"
        )
        self.say(f"page: {comparison.page}")

    def plan(self, plan: Plan) -> None:
        """What a run takes on each rank."""
        sizes, on_gpu = plan.sizes, plan.gpu is not None
        model = f"{_count(sizes.shared)} shared elements that are trained"
        model += f", {_count(sum(sizes.heads))} in heads" if sum(sizes.heads) else ""
        model += f", {_count(sizes.frozen)} frozen" if sizes.frozen else ""
        kind = f"x {plan.gpu.name}" if plan.gpu else "CPU processes"
        self.say(f"{model}; {plan.tasks} tasks; {plan.ranks} {kind}")
        largest = max((part for part in plan.parts if not part.at_once), key=lambda part: part.nbytes)
        rows = []
        for part in plan.parts:
            place = [{"device": "GPU", "host": "CPU"}[part.place]] if on_gpu else []
            counted = part.formula if part.at_once or part is largest else f"{part.formula}; at another time"
            rows.append([part.name, decimal(round(part.nbytes)), *place, counted])
        text = ["part", *(["where"] if on_gpu else []), "how it is counted"]
        title = f"memory of a {'GPU' if on_gpu else 'process'}"
        self._table([text[0], "size", *text[1:]], rows, left=text, title=title)
        self.say(_verdict(plan))
        moved = plan.traffic
        if moved.passes:
            parts = [f"{moved.passes} passes forward and backward over the dev examples"]
            parts += [f"{decimal(round(moved.memory))} read and written by operations on deltas"]
            parts += [f"{decimal(round(moved.network))} received from other ranks"] if moved.network else []
            parts += [f"{decimal(round(moved.bus))} between GPU and CPU"] if moved.bus else []
            self.say(f"αVIL's own work in a round: {', '.join(parts)}")
        if plan.seconds:
            times = ", ".join(f"{what} {seconds:.2g} s" for what, seconds in plan.seconds.items())
            self.say(f"which takes at least: {times}")
        for note in plan.notes:
            self.say(f"note: {note}")

    def checkpoint(self, path: Path, inspection: Inspection, checked: bool) -> None:
        """What a checkpoint is."""
        manifest, config = inspection.manifest, inspection.manifest.config
        self.say(str(path))
        table = Table(show_header=False)
        tasks = ", ".join(task["name"] for task in manifest.tasks if task["name"] != config["target"])
        table.add_row("run", f"{config['method']} for {config['target']}, with {tasks or 'no auxiliary'}")
        table.add_row("saved", f"{manifest.saved} by avil_fast {manifest.version}")
        table.add_row("where", f"{in_words(manifest.where)}, of {config['rounds']} rounds")
        ranks = "1 process" if manifest.ranks == 1 else f"{manifest.ranks} ranks"
        table.add_row("trained by", f"{ranks}, {manifest.engine}")
        parts = sorted(inspection.parts.items(), key=lambda part: -part[1])
        sizes = [decimal(inspection.nbytes), *(f"{decimal(nbytes)} {part}" for part, nbytes in parts)]
        table.add_row("size", "\n".join(sizes))
        whole = "yes" if checked else "sizes are right; contents were not checked"
        table.add_row("whole", "no" if inspection.damage else whole)
        self._rich.print(table)

    def data(self, overview: Overview) -> None:
        """What a run's data looks like."""
        self._table(
            ["task", "split", "examples", "items", "labels", "tokens", "cut", "repeated"],
            [
                [
                    split.task,
                    split.split,
                    str(split.examples),
                    str(split.items),
                    "\n".join(f"{name} {value:g}" for name, value in split.labels.items()) or NONE,
                    " ".join(map(str, split.tokens.values())),
                    f"{split.cut} ({split.cut / split.examples:.0%})" if split.cut else "0",
                    str(split.repeated),
                ]
                for split in overview.splits
            ],
            left=["task", "split"],
            whole=["labels", "tokens"],
        )
        self.say("Tokens: the median, 95 % have no more, the longest. Cut: longer than the model reads.")
        self.say("As the model sees them; what is learned is bold.")
        for split in overview.splits:
            if split.split == "train":
                line = Text(f"{split.task}: ")
                for part, learned in split.shown:
                    line.append(part, style="bold" if learned else "")
                self._rich.print(line, soft_wrap=True)
        for leak in overview.leaks:
            if not leak.stops:
                self.say(f"overlap: {leak.overlap}. {leak.sentence}")
        if not overview.leaks:
            self.say("No row of the target's dev or test set stands anywhere else.")


def _figures(run: dict[str, Any], metric: dict[str, Any] | None, runs: Iterable[dict[str, Any]]) -> list[str]:
    """A run's metric, or its loss where there is none, on test and on dev, as it stands among the runs."""
    kind = "metric" if metric else "loss"
    test, dev = (shown(run[f"{split}_{kind}"], metric, runs) for split in ("test", "dev"))
    return [test, dev if held_out(run) else SEEN]


def _verdict(plan: Plan) -> str:
    """Whether a run fits, and what to do if not."""
    size, largest = decimal(round(plan.device)), f"the largest part: {plan.largest.name}"
    if plan.room is None:
        return f"at most {size} in each process; {largest}. With --gpu-memory GB: whether it fits"
    room = decimal(round(plan.room))
    host = f", and {decimal(round(plan.host))} for each in the CPU's memory" if plan.host else ""
    if plan.fits:
        return f"fits: at most {size} of {room}{host}; {largest}"
    problem = f"does not fit: {size}, but there are {room}; {largest}."
    if plan.advice is None:
        return f"{problem} No setting makes it fit: use model.lora, a lower model.max_length, or more GPUs"
    changes = [f"{change.words} ({change.cost})" for change in plan.advice.changes]
    if plan.advice.ranks > plan.ranks:
        changes.append(f"--gpus {plan.advice.ranks}")
    then = f"then it takes {decimal(round(plan.advice.nbytes))}"
    then += f", and {decimal(round(plan.advice.host))} for each in the CPU's memory" if plan.advice.host else ""
    return f"{problem} The cheapest change: {', '.join(changes)}; {then}"


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
