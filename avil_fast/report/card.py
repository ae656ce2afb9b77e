"""The model card of an exported run: README.md, with the front matter that Hugging Face reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from avil_fast.config import Config
from avil_fast.config.model import CausalLMConfig
from avil_fast.config.text_tasks import TextTasksConfig
from avil_fast.files.yaml_text import to_yaml
from avil_fast.report.auxiliaries import is_clear, period
from avil_fast.report.exported_run import ExportedRun
from avil_fast.report.formatting import NONE, number
from avil_fast.report.front_matter import front_matter, title
from avil_fast.report.headline_metric import SEEN, held_out, shown
from avil_fast.report.redaction import hidden, plain

MARK = "<!-- Written by avil-fast export. -->"
"""By which an export knows an earlier one."""

_SPLITS = ("train", "dev", "test")


def render(run: ExportedRun, vectors: Mapping[str, tuple[str, float]] | None = None) -> str:
    """The card.

    Args:
        run: the run.
        vectors: folder and α of each task's vector, if they are beside the model.
    """
    summary, target = run.summary, run.summary["target"]
    text = to_yaml(hidden(run.config.model_dump(mode="json")))
    auxiliaries = [name for name in summary["tasks"] if name != target]
    metric = summary.get("metric") or ({"name": "metric"} if summary["dev_metric"] is not None else None)
    return _template().render(
        front=to_yaml(front_matter(run)).rstrip(),
        mark=MARK,
        title=title(run),
        method=summary["method"],
        alone=_alone(summary),
        target=target,
        together=bool(run.kept.get("share")),
        restarted=bool(run.kept.get("restarted")),
        auxiliaries=_counted(len(auxiliaries), "other dataset"),
        auto=_auto(run),
        generates=isinstance(run.model, CausalLMConfig),
        pair=_has_pairs(run),
        metric=metric["name"] if metric else None,
        dev_held_out=held_out(summary),
        results=_results(summary, metric),
        data=[_sizes(summary, name) for name in summary["tasks"]],
        shares=[(name, _share(run, name)) for name in summary["tasks"]],
        settings=list(_settings(run)),
        vectors=_vectors(run, vectors),
        before_finetune=", before the fine-tune" if summary["finetune_epoch"] else "",
        versions=", ".join(f"{name} {version}" for name, version in (summary["versions"] | run.versions).items()),
        config=text.rstrip(),
        fence="`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0)),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template("card.md.j2")


def _auto(run: ExportedRun) -> str | None:
    """The class of transformers that loads the model."""
    if not run.is_transformers:
        return None
    return (
        "AutoModelForCausalLM" if isinstance(run.model, CausalLMConfig) else "AutoModelForSequenceClassification"
    )


def _alone(summary: dict[str, Any]) -> bool:
    """Nothing but the target was trained."""
    return not any(summary["steps"].get(name) for name in summary["tasks"] if name != summary["target"])


def _has_pairs(run: ExportedRun) -> bool:
    """The target is on pairs of texts."""
    tasks = run.config.tasks if isinstance(run.config, Config) else None
    return isinstance(tasks, TextTasksConfig) and bool(tasks.by_name[run.summary["target"]].columns.pair)


def _results(summary: dict[str, Any], metric: dict[str, Any] | None) -> list[dict[str, str]]:
    """Rows of the table: this run, then its baselines."""
    runs = [summary, *summary["baselines"].values()]
    return [
        {
            "name": f"`{run['method']}`" + (", this model" if run is summary else ""),
            "dev": shown(run["dev_metric"], metric, runs) if held_out(run) else SEEN,
            "test": shown(run["test_metric"], metric, runs),
            "loss": number(run["dev_loss"]) if held_out(run) else SEEN,
            "test_loss": number(run["test_loss"]),
        }
        for run in runs
    ]


def _sizes(summary: dict[str, Any], name: str) -> dict[str, str]:
    """A task's row of the table of data."""
    examples = summary.get("examples", {}).get(name, {})
    return {"name": name} | {split: f"{examples[split]:,}" if split in examples else NONE for split in _SPLITS}


def _share(run: ExportedRun, name: str) -> str:
    """What a run made of a task."""
    summary = run.summary
    if not summary["steps"].get(name):
        return "it was not trained."
    if summary["method"] != "avil":
        return "the only task that was trained." if _alone(summary) else f"trained by `{summary['method']}`."
    alpha, mean, weight = run.kept["alpha"][name], summary["alpha_mean"][name], summary["weight_last"][name]
    ended = "stayed at 1" if run.config.weights.rule == "off" else f"ended at {weight:.2f}"
    if run.kept.get("share"):
        count = sum(map(held_out, run.history))
        rounds = "round" if count == 1 else f"{count} rounds"
        share = run.kept["share"][name]
        had = "as many steps as the target" if share == 1 else f"{_percent(share)} of the target's steps"
        if name == summary["target"]:
            had = "its dev set to train on, too"
        then = "when training began anew" if run.kept.get("restarted") else "from then on"
        sentence = f"α settled at {alpha:.2f} in the first {rounds}; {then}, it had {had}; its weight {ended}."
    else:
        sentence = (
            f"α was {alpha:.2f} in round {summary['best_round']}, the kept one, and {mean:.2f} on average, so "
            f"{_merged(alpha)}; its weight {ended}."
        )
    gain = summary.get("benefit", {}).get(name)
    if gain is not None and abs(gain) >= 0.0005:
        verb = "lowered" if gain > 0 else "raised"
        when = period(summary, run.history)
        sentence += f" {when[0].upper()}{when[1:]} it {verb} the target's dev loss by {abs(gain):.3f}"
        told = name == summary["target"] or is_clear(summary, run.history, name)
        sentence += "." if told else ", which is too little to tell."
    return sentence


def _merged(alpha: float) -> str:
    """How much of a task's update became part of the model."""
    if alpha < -0.005:
        return f"{_percent(-alpha)} of its update was taken out of the model"
    if alpha < 0.005:
        return "its update was left out"
    if alpha > 1.005:
        return f"its update was merged at {_percent(alpha)} of its size"
    return f"{_percent(alpha)} of its update was merged" if alpha < 0.995 else "all of its update was merged"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _settings(run: ExportedRun) -> Sequence[tuple[str, str]]:
    """Those that matter most."""
    config, summary = run.config, run.summary
    rounds, kept, epoch = summary["rounds"], summary["best_round"], summary["finetune_epoch"]
    optimizer, alpha, lora = config.optimizer, config.alpha, getattr(run.model, "lora", None)
    rows = [
        ("method", f"{summary['method']}, preset {summary['preset']}, seed {summary['seed']}"),
        ("rounds", f"{rounds}, of which round {kept} was kept"),
        ("steps per task in a round", f"{config.steps_per_task}, {config.batch_size} examples each"),
        ("optimizer", f"{optimizer.name}, learning rate {optimizer.lr:g}"),
        ("fine-tune on the target", f"epoch {epoch} was kept" if epoch else "changed nothing"),
    ]
    if summary["method"] == "avil":
        bounds = f"within {alpha.bounds[0]:g} to {alpha.bounds[1]:g}" if alpha.bounds else "without bounds"
        rows += [
            ("α", f"{alpha.steps} steps of {alpha.optimizer} at {alpha.lr:g}, {bounds}"),
            ("weights", config.weights.rule),
            ("deltas", config.deltas.dtype),
        ]
    if lora is not None:
        rows.append(("adapters", f"LoRA of rank {lora.rank}, space {lora.space}, merged into the weights"))
    return rows


def _vectors(run: ExportedRun, vectors: Mapping[str, tuple[str, float]] | None) -> dict[str, Any] | None:
    if vectors is None:
        return None
    rows = [{"name": name, "folder": folder, "alpha": f"{alpha:.4f}"} for name, (folder, alpha) in vectors.items()]
    return {"round": run.summary["best_round"], "rows": rows}


def _counted(count: int, what: str) -> str:
    return "no other dataset" if count == 0 else f"{count} {what}{'' if count == 1 else 's'}"
