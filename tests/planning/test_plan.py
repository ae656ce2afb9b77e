"""A plan says what runs take, and what it advises makes them fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from avil_fast.config import Config, from_settings, load
from avil_fast.errors import AvilError
from avil_fast.planning.hardware import GPUS
from avil_fast.planning.plan import Plan, plan
from benchmarks import plan as benchmark

ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "plan-cpu.json").read_text(encoding="utf-8"))
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "tie_word_embeddings": False,
}


def config(folder: Path, shape: dict[str, Any] | None = None, tasks: int = 3, **settings: Any) -> Config:
    """A run on a model of which there is nothing but config.json."""
    (folder / "config.json").write_text(json.dumps(LLAMA | (shape or {})), encoding="utf-8")
    task = {"kind": "language_modelling", "files": str(folder), "limits": {"dev": 32}}
    given = {
        "target": "task0",
        "model": {"name": "causal_lm", "path": str(folder), "max_length": 64},
        "tasks": {f"task{i}": task for i in range(tasks)},
    }
    return from_settings(given | settings)


def sizes(found: Plan) -> dict[str, float]:
    return {part.name: part.nbytes for part in found.parts}


@pytest.mark.slow
def test_the_digits_take_what_the_plan_says(tmp_path: Path) -> None:
    figures = benchmark.compare("digits, 1 process", tmp_path)
    for part, planned in figures["planned"].items():
        own = 0.3e6  # of Python, which keeps a little more from run to run
        assert planned == pytest.approx(figures["measured"][part], rel=0.1, abs=own), part
    assert figures["planned"]["in all"] == pytest.approx(figures["measured"]["in all"], rel=0.1)


@pytest.mark.parametrize("run", RESULTS["runs"])
def test_what_was_measured_is_what_the_plan_said(run: str) -> None:
    """On MiniLM and the digits, on one process and two ranks: `python -m benchmarks.plan`."""
    planned, measured = (RESULTS["runs"][run][kind] for kind in ("planned", "measured"))
    assert planned["in all"] == pytest.approx(measured["in all"], rel=0.1)
    assert planned["base and bank"] == pytest.approx(measured["base and bank"], rel=0.01)


def test_the_committed_plan_is_that_of_the_code() -> None:
    for run in ("digits, 1 process", "digits, 2 ranks"):
        path, ranks, _ = benchmark.RUNS[run]
        now = benchmark.planned(load(ROOT / path, ["output_dir=null"]), ranks)
        assert now == pytest.approx(RESULTS["runs"][run]["planned"], rel=1e-6)


@pytest.mark.parametrize(("dtype", "e"), [("fp32", 4), ("bf16", 2), ("int8", 1 + 4 / 256)])
@pytest.mark.parametrize("ranks", [1, 4])
def test_base_and_bank_follow_the_formula(tmp_path: Path, dtype: str, e: float, ranks: int) -> None:
    found = plan(config(tmp_path, deltas={"dtype": dtype}), ranks, GPUS["h100"], None)
    n = found.sizes.shared
    assert sizes(found)["base"] == 4 * n / ranks
    assert sizes(found)["bank"] == pytest.approx(3 * e * n / ranks)


@pytest.mark.parametrize(
    ("stage", "parameters", "masters", "gradients", "moments"),
    [(0, 4, 0, 4, 8), (1, 4, 1, 4, 2), (2, 4, 1, 1, 2), (3, 1, 1, 1, 2)],
)
def test_zero_divides_what_its_stage_divides(
    tmp_path: Path, stage: int, parameters: float, masters: float, gradients: float, moments: float
) -> None:
    """Bytes per element on each of 4 ranks, moments of each of 3 tasks."""
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
    found = plan(config(tmp_path, deepspeed=str(tmp_path / "zero.json")), 4, GPUS["h100"], None)
    n, held = found.sizes.shared, sizes(found)
    assert held["parameters"] == parameters * n
    assert held.get("masters", 0) == masters * n
    assert held["gradients"] == gradients * n
    assert held["moments"] == 3 * moments * n


def test_in_bf16_there_are_masters_and_half_the_parameters(tmp_path: Path) -> None:
    model = {"name": "causal_lm", "path": str(tmp_path), "max_length": 64, "dtype": "bf16"}
    found = plan(config(tmp_path, None, model=model), 1, GPUS["h100"], None)
    assert sizes(found)["parameters"] == 2 * found.sizes.shared
    assert sizes(found)["masters"] == 4 * found.sizes.shared


def test_a_run_that_fits_gets_no_advice(tmp_path: Path) -> None:
    found = plan(config(tmp_path), 1, GPUS["h100"], 80e9)
    assert found.fits
    assert found.advice is None


@pytest.mark.parametrize("share", [0.95, 0.8, 0.6, 0.4])
def test_the_advice_makes_a_run_fit(tmp_path: Path, share: float) -> None:
    """The settings that it names, given to a plan of their own, take what it says."""
    asked = config(tmp_path)
    room = share * plan(asked, 4, GPUS["h100"], None).device
    found = plan(asked, 4, GPUS["h100"], room)
    assert not found.fits
    assert found.advice is not None
    assert found.advice.ranks == 4
    settings = asked.model_dump(mode="json")
    for change in found.advice.changes:
        name, equals, value = change.words.partition("=")
        if not equals:
            settings["deepspeed"] = str(ROOT / change.words.split()[1])
            continue
        section, _, key = name.rpartition(".")
        (settings[section] if section else settings)[key] = json.loads(value) if value in ("true", "8") else value
        if name == "gradient_accumulation_steps":
            settings[name] = int(value)
    then = plan(from_settings(settings), 4, GPUS["h100"], room)
    assert then.fits
    assert then.device == pytest.approx(found.advice.nbytes, rel=1e-6)


def test_the_cheapest_change_comes_alone_where_it_is_enough(tmp_path: Path) -> None:
    asked = config(tmp_path, tasks=64, optimizer={"moments": "reset"})
    whole = plan(asked, 1, GPUS["h100"], None)
    found = plan(asked, 1, GPUS["h100"], whole.device - 1)
    assert found.advice is not None
    assert [change.words for change in found.advice.changes] == ["deltas.dtype=bf16"]
    assert found.largest.name == "bank"


def test_no_advice_where_nothing_helps(tmp_path: Path) -> None:
    found = plan(config(tmp_path), 1, GPUS["h100"], 1e3)
    assert found.fits is False
    assert found.advice is None


def test_communication_is_that_of_the_stage(tmp_path: Path) -> None:
    """θ is received after each of n tasks, S + 1 gradients and the merge; each gradient is reduced once."""
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": {"stage": 2}}), encoding="utf-8")
    asked = config(tmp_path, deepspeed=str(tmp_path / "zero.json"), alpha={"steps": 5})
    found = plan(asked, 2, GPUS["h100"], None)
    assert found.traffic.passes == 6
    assert found.traffic.network == pytest.approx(4 * found.sizes.shared / 2 * (3 + 7 + 6))
    assert plan(config(tmp_path), 1, GPUS["h100"], None).traffic.network == 0


def test_single_has_no_deltas(tmp_path: Path) -> None:
    found = plan(config(tmp_path, method="single"), 1, GPUS["h100"], None)
    assert not {"base", "bank"} & sizes(found).keys()
    assert found.traffic.passes == 0


def test_a_target_that_is_no_task_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AvilError, match="target is 'other', but the tasks are task0, task1, task2; name one"):
        plan(config(tmp_path, target="other"), 1, GPUS["h100"], None)


def test_json_holds_all_of_it(tmp_path: Path) -> None:
    found = plan(config(tmp_path), 1, GPUS["h100"], 1e6).as_json()
    assert json.loads(json.dumps(found)) == found
    assert found["fits"] is False


def test_a_smaller_piece_of_the_batch_is_advised_by_its_number(tmp_path: Path) -> None:
    """Activations of 512 examples at once are in the way, and nothing that is cheaper helps enough."""
    settings = {
        "batch_size": 512,
        "eval_batch_size": 8,
        "optimizer": {"moments": "reset"},
        "deltas": {"dtype": "int8"},
    }
    asked = config(tmp_path, **settings)
    whole = plan(asked, 1, GPUS["h100"], None)
    found = plan(asked, 1, GPUS["h100"], whole.device / 4)
    assert found.advice is not None
    assert "gradient_accumulation_steps=512" in [change.words for change in found.advice.changes]
