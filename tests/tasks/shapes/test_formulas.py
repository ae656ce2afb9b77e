"""A decoder's shape by formulas is the one that is counted through transformers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avil_fast.config.model import CausalLMConfig, EncoderConfig
from avil_fast.tasks.shapes.base import Kept, Pass
from avil_fast.tasks.shapes.formulas import FormulaShape, by_formulas
from tests.tasks.shapes.test_shapes import KINDS, causal, llama

QWEN3 = {"model_type": "qwen3", "head_dim": 8}
DECODERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "tied": {"tie_word_embeddings": True},
    "not grouped": {"num_key_value_heads": 4},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 20},
    "rope": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 5e5},
    "large vocabulary": {"vocab_size": 5000},
    "two layers": {"num_hidden_layers": 2},
    "mistral": {"model_type": "mistral"},
    "windows": {"model_type": "mistral", "sliding_window": 8},
    "qwen2": {"model_type": "qwen2", "max_window_layers": 7, "use_sliding_window": False},
    "qwen3": QWEN3,
    "qwen3, tied": QWEN3 | {"tie_word_embeddings": True, "attention_bias": True, "head_dim": 16},
}


def formulas(folder: Path, **model: Any) -> FormulaShape | None:
    return by_formulas(CausalLMConfig(path=str(folder), **{"max_length": 16} | model))


def both(folder: Path, kind: Pass, examples: int = 4, **model: Any) -> tuple[Kept, Kept]:
    """By formulas, and counted."""
    found = formulas(folder, **model)
    assert found is not None
    return found.kept(examples, kind), causal(folder, **model).kept(examples, kind)


@pytest.mark.parametrize("decoder", DECODERS)
def test_it_is_the_shape_that_is_counted(tmp_path: Path, decoder: str) -> None:
    folder = llama(tmp_path / "model", **DECODERS[decoder])
    found, counted = formulas(folder, dtype="bf16"), causal(folder, dtype="bf16")
    assert found is not None
    assert (found.sizes, found.tokens, found.notes) == (counted.sizes, counted.tokens, counted.notes)
    for kind in KINDS:
        assert found.kept(4, kind).nbytes == counted.kept(4, kind).nbytes, kind


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("vocabulary", [40, 300])
def test_settings_keep_what_is_counted(tmp_path: Path, dtype: str, checkpointing: bool, vocabulary: int) -> None:
    """Of 40 words the loss takes less than a layer's backward pass, for which the formulas are good to 1 %."""
    folder = llama(tmp_path / "model", vocab_size=vocabulary)
    for kind in KINDS:
        for examples in (1, 4):
            found, counted = both(folder, kind, examples, dtype=dtype, gradient_checkpointing=checkpointing)
            bound = 0.01 if vocabulary == 40 else 0
            assert found.nbytes == pytest.approx(counted.nbytes, rel=bound), kind


def test_another_setting_makes_another_shape(tmp_path: Path) -> None:
    folder = llama(tmp_path / "model")
    found, saving = formulas(folder), formulas(folder, gradient_checkpointing=True)
    assert found is not None
    assert saving is not None
    changed = found.changed(gradient_checkpointing=True)
    assert changed is not None
    assert changed.kept(4, "training") == saving.kept(4, "training") != found.kept(4, "training")
    assert found.changed(dtype="fp32") is None


UNKNOWN: dict[str, dict[str, Any]] = {
    "another family": {"model_type": "gemma"},
    "a field that is not known": {"mlp_only_layers": [1]},
    "code of its own": {"auto_map": {"AutoConfig": "own.Config"}},
    "another attention": {"attn_implementation": "eager"},
    "another activation": {"hidden_act": "gelu"},
    "dropout": {"attention_dropout": 0.1},
    "positions of a part": {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
    "other positions": {"rope_scaling": {"rope_type": "longrope"}},
    "layers that differ": {"model_type": "qwen2", "use_sliding_window": True},
    "a narrow MLP": {"intermediate_size": 32},
    "wide queries": {"head_dim": 40},
    "heads that do not divide": {"num_attention_heads": 5},
    "groups that do not divide": {"num_key_value_heads": 3},
    "a size that is a word": {"hidden_size": "32"},
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_surely_known_is_left_to_transformers(tmp_path: Path, what: str) -> None:
    assert formulas(llama(tmp_path / "model", **UNKNOWN[what])) is None


def test_so_are_adapters_encoders_and_a_hub(tmp_path: Path) -> None:
    folder = llama(tmp_path / "model")
    assert formulas(folder, lora={"rank": 2}) is None
    assert by_formulas(EncoderConfig(path=str(folder))) is None
    assert by_formulas(CausalLMConfig(path="hub:someone/llama")) is None


@pytest.mark.parametrize("text", ["", "[]", "[[]]", "null", "{"])
def test_a_damaged_config_is_left_to_transformers(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert formulas(tmp_path) is None


def test_a_plan_of_a_known_decoder_imports_no_transformers(tmp_path: Path) -> None:
    task = {"kind": "language_modelling", "files": "nowhere"}
    model = {"name": "causal_lm", "path": str(llama(tmp_path / "model"))}
    (tmp_path / "run.yaml").write_text(
        json.dumps({"target": "a", "model": model, "tasks": {"a": task, "b": task}}), encoding="utf-8"
    )
    code = f"""
import sys
from avil_fast.cli import app
app(["plan", {str(tmp_path / "run.yaml")!r}, "--gpus", "2", "--gpu-memory", "0.001"], standalone_mode=False)
print(sorted({{"transformers", "matplotlib", "torch._dynamo"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
