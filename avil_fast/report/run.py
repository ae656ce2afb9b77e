"""A finished run, as its folder tells it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from avil_fast.checkpoint.folder import has_any
from avil_fast.errors import AvilError, reason
from avil_fast.files.yaml_text import NoYaml, parse
from avil_fast.report.place import CONFIG, METRICS, SUMMARY

Numbers = dict[str, FiniteFloat | None]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Metric(_Strict):
    name: str
    higher_is_better: bool
    percent: bool


class _Memory(_Strict):
    base: int
    bank: int


class _Measured(_Strict):
    dev_loss: FiniteFloat
    dev_metric: FiniteFloat | None
    test_loss: FiniteFloat | None
    test_metric: FiniteFloat | None
    dev_held_out: bool = True
    benefit: Numbers = {}


class _Summary(_Measured):
    """What a page needs of summary.json; what older runs lack has a default."""

    method: str
    preset: str
    target: str
    metric: _Metric | None = None
    tasks: list[str] = Field(min_length=1)
    seed: int
    rounds: int
    best_round: int
    finetune_epoch: int
    alpha_mean: Numbers
    alpha_last: Numbers = {}
    share_last: Numbers | None = None
    influence: Numbers
    weight_last: Numbers
    steps: dict[str, int]
    rejected_steps: dict[str, int] = {}
    rejected_alpha_steps: int = 0
    seconds: FiniteFloat
    versions: dict[str, str]
    ranks: int = 1
    memory: _Memory | None = None
    baselines: dict[str, _Summary]


class _Seconds(_Strict):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: Numbers
    total: FiniteFloat


class _Row(_Measured):
    """What a page needs of a line of metrics.jsonl."""

    round: int
    alpha: Numbers
    alpha_layers: dict[str, Numbers] = {}
    weight: Numbers
    alpha_path: list[list[FiniteFloat]] = []
    share: Numbers = {}
    restarted: bool = False
    cosine: list[list[FiniteFloat]]
    seconds: _Seconds


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        path: its folder.
        summary: what summary.json holds.
        history: the lines of metrics.jsonl, at least one.
        config: the text of config.yaml.
        settings: what it says.
    """

    path: Path
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    config: str
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        """The name of its folder."""
        return self.path.resolve().name


def read(folder: Path) -> FinishedRun:
    """Read a run's folder.

    Raises:
        AvilError: it is no run, is not finished, or holds a damaged file.
    """
    if not (folder / CONFIG).is_file():
        raise AvilError(f"{str(folder)!r} is no run: it has no {CONFIG}; name a run's folder, such as runs/digits")
    if not (folder / SUMMARY).is_file():
        go_on = f"go on with: avil-fast train {folder / CONFIG} --resume auto"
        what_next = go_on if has_any(folder) else "train it again"
        raise AvilError(f"{str(folder)!r} holds a run that is not finished: it has no {SUMMARY}; {what_next}")
    config = _text(folder / CONFIG)
    try:
        settings = parse(config)
    except NoYaml as error:
        raise _damaged(folder / CONFIG, str(error)) from error
    if not isinstance(settings, dict):
        raise _damaged(folder / CONFIG, f"it holds a {type(settings).__name__}, but must hold settings")
    summary = _checked(folder / SUMMARY, _Summary, _text(folder / SUMMARY))
    if summary["target"] not in summary["tasks"]:
        raise _damaged(folder / SUMMARY, f"its target {summary['target']!r} is none of its tasks")
    history = [
        _checked(folder / METRICS, _Row, line, f"line {number}: ")
        for number, line in enumerate(_text(folder / METRICS).splitlines(), 1)
    ]
    if not history or summary["best_round"] not in {row["round"] for row in history}:
        raise _damaged(folder / METRICS, f"it has no line of round {summary['best_round']}, which was kept")
    for row in history:
        if any(len(cosines) != len(row["cosine"]) for cosines in row["cosine"]):
            raise _damaged(folder / METRICS, f"the cosines of round {row['round']} are no square")
    return FinishedRun(folder, summary, history, config, settings)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _damaged(path, reason(error)) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is not UTF-8 text") from error


Checked = TypeVar("Checked", bound=BaseModel)


def _checked(path: Path, kind: type[Checked], text: str, where: str = "") -> dict[str, Any]:
    """What the text holds, as it stands, once a page has what it needs."""
    try:
        value: dict[str, Any] = json.loads(text)
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _damaged(path, f"{where}{place + ': ' if place else ''}{first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, where + str(error)) from error
    return value


def _damaged(path: Path, problem: str) -> AvilError:
    problem = " ".join(problem.split())
    return AvilError(f"{str(path)!r} is damaged ({problem}); take it from a copy of the run, or train it again")
