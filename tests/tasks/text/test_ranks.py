"""Tasks on texts on two ranks come to what one process comes to, and their results load the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

from tests.engine.ranks.launch import ROOT, free_port
from tests.tasks import made_up

pytest.importorskip("deepspeed", reason="the extra zero is not installed")

pytestmark = [pytest.mark.xdist_group("launch"), pytest.mark.slow]

RUN = {"rounds": 2, "steps_per_task": 3, "batch_size": 5, "eval_batch_size": 7, "baselines": [], "target": "news"}
PROMPTED = {
    "kind": "language_modelling",
    "prompt": "{text}:",
    "completion": "{label} {label}",
    "metric": "token_accuracy",
}

# name: (config, overrides, ZeRO file). Optimizers: SGD, whose steps do not turn rounding into signs.
CASES: dict[str, tuple[str, list[str], str | None]] = {
    "encoder": ("encoder", [], None),
    "encoder-zero2": ("encoder", [], "zero2"),
    "encoder-zero3": ("encoder", [], "zero3"),
    "lm": ("lm", [], None),
    "lm-zero2": ("lm", [], "zero2"),
    "lm-zero3": ("lm", [], "zero3"),
    "random": ("lm", ["model.init=random"], None),
    "random-zero3": ("lm", ["model.init=random"], "zero3"),
    "lora": ("lm", ["model.lora={rank: 4}"], None),
    "lora-zero2": ("lm", ["model.lora={rank: 4}"], "zero2"),
    "lora-zero3": ("lm", ["model.lora={rank: 4}"], "zero3"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the runs on one process and on two ranks."""
    root = tmp_path_factory.mktemp("text")
    made_up.encoder(root / "models" / "encoder", hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    made_up.causal_lm(root / "models" / "lm")
    for seed, name in enumerate(("news", "tweets", "movies")):
        made_up.task(root / name, seed=seed)
    labelled: dict[str, Any] = {name: {"files": str(root / name), "metric": "f1"} for name in ("news", "tweets")}
    language: dict[str, Any] = {
        "news": PROMPTED | {"files": str(root / "news")},
        "tweets": PROMPTED | {"files": str(root / "tweets"), "demonstrations": 2},
        "movies": {"kind": "language_modelling", "files": str(root / "movies"), "packing": True},
    }
    for name, tasks in (("encoder", labelled), ("lm", language)):
        more = {"alpha": {"steps": 2}, "finetune": {"epochs": 1}, "optimizer": {"name": "sgd", "lr": 0.1}}
        model = {"path": str(root / "models" / name), "max_length": 16 if name == "encoder" else 100}
        text = yaml.safe_dump(RUN | more | {"tasks": tasks, "model": model})
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
    cases = {name: (str(root / f"{config}.yaml"), more, zero) for name, (config, more, zero) in CASES.items()}
    alone, together = root / "alone", root / "together"
    alone.mkdir()
    together.mkdir()
    once = {name: (config, more, None) for name, (config, more, zero) in cases.items() if zero is None}
    (alone / "cases.json").write_text(json.dumps(once), encoding="utf-8")
    (together / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    for start, folder in (([], alone), (launcher, together)):
        done = subprocess.run(
            [sys.executable, *start, "-m", "tests.tasks.text.ranks", str(folder / "cases.json")],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return alone, together


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_come_to_what_one_process_comes_to(runs: tuple[Path, Path], case: str) -> None:
    alone, together = runs[0] / case.partition("-")[0], runs[1] / case
    for one, two in zip(rows(alone), rows(together), strict=True):
        for key in ("alpha", "delta_norm", "train_loss"):
            assert two[key] == pytest.approx(one[key], rel=2e-4, abs=1e-5)
        for key in ("dev_loss", "test_loss", "dev_metric", "test_metric"):
            assert two[key] == pytest.approx(one[key], rel=1e-4)
    files = [path.name for path in (alone / "model").glob("*.safetensors")]
    assert files
    for name in files:
        found, expected = (safetensors.torch.load_file(folder / "model" / name) for folder in (together, alone))
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=2e-5)
    names = sorted(path.name for path in (alone / "model").iterdir())
    assert sorted(path.name for path in (together / "model").iterdir()) == names
