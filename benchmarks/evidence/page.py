"""The tables of docs/evidence.md and docs/evidence_by_setting.md, from benchmarks/results/evidence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

from avil_fast.comparing.statistics import LEVEL, mean, paired_p

RESULTS = Path(__file__).parents[1] / "results" / "evidence"
SETTINGS = Path(__file__).parent / "settings"
OURS = "avil"
AGAINST = ("multitask", "single", "multitask_all", "single_all")


def found() -> dict[str, dict[str, Any]]:
    """Results by setting, in the order of names; NaN is the value of a run that diverged."""
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    for result in results.values():
        for own in result["methods"].values():
            own["values"] = [math.nan if value is None else value for value in own["values"]]
            own |= {key: math.nan for key in ("mean", "sd", "difference", "p") if own[key] is None}
    return results


def summary() -> str:
    """A row for each setting: the default beside the best of the other methods, and against what matters most."""
    lines = [
        f"| setting | `{OURS}` | best other | "
        + " | ".join(f"against `{other}`" for other in AGAINST)
        + " | against the best |",
        "|---|---|---|" + "---|" * (len(AGAINST) + 1),
    ]
    for name, result in found().items():
        ours = result["methods"][OURS]
        rival = ours["rival"]
        cells = [
            f"[`{name}`](evidence_by_setting.md#{name})",
            _spread(ours),
            f"`{rival}` {_spread(result['methods'][rival])}",
        ]
        cells += [_against(ours["values"], result["methods"][other]["values"]) for other in AGAINST]
        cells.append(_verdict(ours["difference"], ours["p"]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def missing() -> str:
    """The settings that there are no results of."""
    names = sorted({path.stem for path in SETTINGS.glob("*.yaml")} - set(found()))
    return f"Not run yet: {', '.join(f'`{name}`' for name in names)}." if names else "All settings have been run."


def short(settings: dict[str, str]) -> str:
    """The default and what it is held against most often; a column for each of `settings`, with its heading.

    The best in the first setting come first.
    """
    results = {name: found()[name] for name in settings}
    first = next(iter(results.values()))
    methods = sorted((OURS, "paper", *AGAINST), key=lambda method: -first["methods"][method]["mean"])
    lines = [
        f"| {first['measure']['name']} | " + " | ".join(settings.values()) + " |",
        "|---|" + "---|" * len(settings),
    ]
    for method in methods:
        cells = [_spread(result["methods"][method]) for result in results.values()]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    about = (
        f"Seeds {first['seeds'][0]} to {first['seeds'][-1]}, mean ± standard deviation. All have the same rounds; "
        f"in training\nexamples the others are within {_budgets_apart(results)} % of `{OURS}`, but for `paper`, "
        f"which has no fine-tune."
    )
    return "\n".join([*lines, "", about])


def budget() -> str:
    """By how much the budgets of what the default is held against differ from its own, in a sentence."""
    others = ", ".join(f"`{other}`" for other in AGAINST[:-1])
    return (
        f"In training examples {others} and `{AGAINST[-1]}`\nare within {_budgets_apart(found())} % of `{OURS}` "
        f"in every setting: where dev is training data, a pass is longer."
    )


def _budgets_apart(results: dict[str, dict[str, Any]]) -> int:
    """The largest difference between the training examples of the default and another's, in percent of its own."""
    largest = 0.0
    for result in results.values():
        ours, *others = (
            sum(result["methods"][method]["budget"][kind] for kind in ("target", "auxiliary"))
            for method in (OURS, *AGAINST)
        )
        largest = max(largest, *(abs(other / ours - 1) for other in others))
    return math.ceil(100 * largest)


def counts() -> str:
    """Where the default wins, ties and loses, in a sentence for each that it is held against."""
    lines = []
    for other in AGAINST:
        verdicts = []
        for result in found().values():
            ours, theirs = (result["methods"][name]["values"] for name in (OURS, other))
            difference = mean(ours) - mean(theirs)
            verdicts.append(_word(difference, paired_p(ours, theirs)))
        lines.append(f"- against `{other}`: " + _counted(verdicts))
    best = [_word(r["methods"][OURS]["difference"], r["methods"][OURS]["p"]) for r in found().values()]
    lines.append("- against the best of all other methods, corrected for their number: " + _counted(best))
    return "\n".join(lines)


def details() -> str:
    """A section for each setting: what it is, and a row for each method, the best first."""
    sections = []
    for name, result in found().items():
        path = SETTINGS / f"{name}.yaml"
        text = path.read_text(encoding="utf-8")
        about = text.splitlines()[0].lstrip("# ")
        settings = yaml.safe_load(text)
        methods = sorted(result["methods"].items(), key=lambda item: -item[1]["mean"])
        rows = [
            f"| `{method}` | {_spread(own)} | {_verdict(own['difference'], own['p'])} `{own['rival']}` | "
            f"{own['budget']['target']:,.0f} | {own['budget']['auxiliary']:,.0f} | {own['budget']['dev']:.0f} | "
            f"{own['budget']['cpu_seconds']:.1f} | {own['budget']['peak_bytes'] / 1e6:,.0f} |"
            for method, own in methods
        ]
        sections.append(
            "\n".join(
                [
                    f"## {name}",
                    "",
                    f"{about} Target `{settings['target']}`, {settings['rounds']} rounds, seeds "
                    f"{result['seeds'][0]} to {result['seeds'][-1]}; `benchmarks/evidence/settings/{name}.yaml`.",
                    "",
                    f"| method | {result['measure']['name']} | against the best other | target examples | "
                    "auxiliary examples | dev passes | CPU s | peak MB |",
                    "|---|---|---|---|---|---|---|---|",
                    *rows,
                ]
            )
        )
    return "\n\n".join(sections)


def _spread(own: dict[str, Any]) -> str:
    lost = len(own["diverged"])
    return f"{100 * own['mean']:.1f} ± {100 * own['sd']:.1f} %" + (f", {lost} diverged" if lost else "")


def _word(difference: float, p: float) -> str:
    if not p < LEVEL:
        return "tie"
    return "win" if difference > 0 else "loss"


def _verdict(difference: float, p: float) -> str:
    shown = "" if math.isnan(p) else f", p {'< 0.001' if p < 0.001 else f'{p:.2g}'}"
    return f"{_word(difference, p)} ({100 * difference:+.1f}{shown})"


def _against(ours: list[float], theirs: list[float]) -> str:
    return _verdict(mean(ours) - mean(theirs), paired_p(ours, theirs))


def _counted(verdicts: list[str]) -> str:
    plural = {"win": "wins", "tie": "ties", "loss": "losses"}
    counts = {word: verdicts.count(word) for word in plural}
    return ", ".join(f"{count} {word if count == 1 else plural[word]}" for word, count in counts.items())
