"""The pages' tables, made from `benchmarks/results`: `python -m benchmarks.pages` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import floors
from benchmarks.evidence import page as evidence

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
COLUMNS = (2, 8, 32)
README_COLUMNS = {
    "digits": "all three auxiliaries",
    "digits_random": "random labels only",
    "digits_clean": "the two good ones only",
}


def kernels(result: dict[str, Any]) -> str:
    """Percent of the roof, and times as fast as the best alternative, by operation, codec and n."""
    rows = {(row["op"], row["codec"], row["n"]): row for row in result["rows"]}
    lines = [
        "| operation | deltas | " + " | ".join(f"n = {n}" for n in COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for op, codec in dict.fromkeys((row["op"], row["codec"]) for row in result["rows"]):
        cells = [rows.get((op, codec, n)) for n in COLUMNS]
        lines.append(f"| `{op}` | {codec} | " + " | ".join(map(_cell, cells)) + " |")
    versions = ", ".join(f"{key} {result[key]}" for key in ("torch", "triton") if key in result)
    threads = f", {result['threads']} threads, {result['instruction_set']}" if "threads" in result else ""
    first = f"; first use {result['first_use_ms']:.0f} ms" if "first_use_ms" in result else ""
    about = (
        f"Percent of the roof, and how many times as fast as the best torch alternative: {result['device']}"
        f"{threads}, {versions}, {result['numel'] / 2**20:.0f} Mi parameters{first}."
    )
    return "\n".join([*lines, "", about])


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    best = min(row["ratios"].values(), default=None)
    return f"{row['percent_of_roof']:.0f} %" + (f", {best:.2f}×" if best is not None else "")


def speed(result: dict[str, Any]) -> str:
    """The range of what every α step costs, and the share of whole rounds, in two sentences."""
    shares = [row["percent_of_roof"] for row in result["rows"] if row["op"] != "delta_gram"]
    run = result["endtoend"]
    parameters = f"{run['parameters'] / 1e9:.2g} billion parameters"
    return (
        f"On an {result['device'].split()[-1]} those of every task and α step run at {min(shares):.0f} to "
        f"{max(shares):.0f} % of the rate of a plain copy or read.\nIn a round of {run['options']['tasks']} tasks "
        f"and {parameters} all of them took {run['delta_ops_percent']:.1f} % of the time."
    )


def planned(result: dict[str, Any]) -> str:
    """What the plan says beside what was measured."""
    lines = ["| run | planned, MB | measured, MB | planned / measured |", "|---|---|---|---|"]
    for run, found in result["runs"].items():
        plan, measured = found["planned"]["in all"], found["measured"]["in all"]
        lines.append(f"| {run} | {plan / 1e6:,.1f} | {measured / 1e6:,.1f} | {plan / measured:.3f} |")
    return "\n".join(lines)


def plans(result: dict[str, Any]) -> str:
    """From how many GPUs on a large run fits, and what is in the way."""
    rows = {(row["model"], row["tasks"], row["way"]): row for row in result["rows"]}
    lines = [
        "| parameters | tasks | fits from | largest part there | with int8, moments reset | largest part there | "
        "αVIL's own work there, s a round |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, tasks in dict.fromkeys((row["model"], row["tasks"]) for row in result["rows"]):
        default, small = (rows[model, tasks, way] for way in ("default", "small"))
        size = f"{default['parameters'] / 1e9:.3g} billion"
        cells = [size, str(tasks), *_fits(default), *_fits(small), f"{small['seconds']:.0f} ({small['slowest']})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _fits(row: dict[str, Any]) -> tuple[str, str]:
    gpus = (
        "more than 4,096 GPUs"
        if row["ranks"] is None
        else f"{row['ranks']:,} GPU{'s' if row['ranks'] > 1 else ''}"
    )
    return gpus, f"{row['largest']} ({row['bytes'] / 1e9:.0f} GB in all)"


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


TABLES: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {
        "digits": lambda: evidence.short(README_COLUMNS),
        "speed": lambda: speed(_result("h200")),
    },
    ROOT / "docs" / "performance.md": {
        "cpu": lambda: kernels(_result("cpu")),
        "gpu": lambda: kernels(_result("h200")),
        "operations": floors.operations,
        "models": floors.models,
        "streamed": floors.streamed,
    },
    ROOT / "docs" / "evidence.md": {
        "missing": evidence.missing,
        "summary": evidence.summary,
        "counts": evidence.counts,
        "budget": evidence.budget,
    },
    ROOT / "docs" / "evidence_by_setting.md": {"details": evidence.details},
    ROOT / "docs" / "planning.md": {
        "plan": lambda: planned(_result("plan-cpu")),
        "plan-gpu": lambda: planned(_result("plan-h200")),
        "plans": lambda: plans(_result("plans")),
    },
}


def rendered(page: Path) -> str:
    """A page with what stands between each pair of markers made anew."""
    text = page.read_text(encoding="utf-8")
    for name, table in TABLES[page].items():
        begin, end = f"<!-- {name}: made by python -m benchmarks.pages -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{page} lacks the markers {begin} and {end}")
        text = f"{before}{begin}\n{table()}\n{end}{after}"
    return text


if __name__ == "__main__":
    for page in TABLES:
        page.write_text(rendered(page), encoding="utf-8")
