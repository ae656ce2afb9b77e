"""Models that cannot be used for what they are taken for, and what is said about them."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from avil_fast.config.model import CausalLMConfig, EncoderConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.text import loading, packages, probe
from tests.tasks import made_up

ROBERTA: dict[str, Any] = {"vocab_size": len(made_up.WORDS), "max_position_embeddings": 24, "type_vocab_size": 1}
ROBERTA |= made_up.SIZE


def load(folder: Path, kind: str = "encoder", **settings: Any) -> Any:
    """A model with two classes, or a language model."""
    if kind == "encoder":
        config = EncoderConfig(**{"path": str(folder), "max_length": 16} | settings)
        return loading.load_encoder(config, loading.load_tokenizer(config), ["a", "b"], 2, 0).model
    language = CausalLMConfig(**{"path": str(folder), "max_length": 16} | settings)
    return loading.load_causal_lm(language, loading.load_tokenizer(language), 0)


def refused(folder: Path, kind: str = "encoder", **settings: Any) -> str:
    with pytest.raises(AvilError) as caught:
        load(folder, kind, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_loading_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made_up.encoder(tmp_path)
    capfd.readouterr()
    load(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_parameters_are_fp32_whatever_was_saved(tmp_path: Path) -> None:
    file = made_up.encoder(tmp_path) / "model.safetensors"
    saved = {name: value.half() for name, value in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(saved, file, metadata={"format": "pt"})
    edit(tmp_path, "config.json", dtype="float16")
    assert {parameter.dtype for parameter in load(tmp_path).parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in load(tmp_path, dtype="bf16").parameters()} == {torch.bfloat16}


def test_a_missing_package_is_answered_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AvilError, match=r"need the package peft; .*: pip install 'avil-fast\[text\]'"):
        packages.require("peft")


def test_a_text_longer_than_the_positions_is_refused(tmp_path: Path) -> None:
    made_up.encoder(tmp_path)
    assert "model.max_length is 25, but" in refused(tmp_path, max_length=25)
    load(tmp_path, max_length=24)


def roberta(folder: Path, pad: int) -> Path:
    """A RoBERTa, which counts positions from its padding token, and the tokenizer of another model."""
    made_up.encoder(folder)
    transformers.RobertaModel(transformers.RobertaConfig(pad_token_id=pad, **ROBERTA)).save_pretrained(folder)
    return folder


def test_positions_that_count_from_the_padding_token_are_fewer(tmp_path: Path) -> None:
    roberta(tmp_path, pad=0)
    assert f"reads {24 - 1} tokens at most" in refused(tmp_path, max_length=24)
    model = load(tmp_path, max_length=23)
    assert model(input_ids=torch.full((1, 23), 5)).logits.shape == (1, 2)


def test_a_padding_token_is_the_tokenizers_before_positions_are_counted(tmp_path: Path) -> None:
    model = load(roberta(tmp_path, pad=1))
    assert model.roberta.embeddings.padding_idx == model.config.pad_token_id == 0


@pytest.mark.parametrize(("kind", "lost"), [("encoder", "encoder.layer.1.output.dense.weight"), ("lm", "norm")])
def test_a_file_without_some_weights_is_refused(tmp_path: Path, kind: str, lost: str) -> None:
    file = (made_up.encoder(tmp_path) if kind == "encoder" else made_up.causal_lm(tmp_path)) / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    without_pooler = {name: value for name, value in weights.items() if not name.startswith("pooler")}
    safetensors.torch.save_file(without_pooler, file, metadata={"format": "pt"})
    load(tmp_path, kind)
    left = {name: value for name, value in without_pooler.items() if lost not in name}
    safetensors.torch.save_file(left, file, metadata={"format": "pt"})
    assert "its file lacks" in refused(tmp_path, kind)


def test_a_language_model_without_its_head_is_refused(tmp_path: Path) -> None:
    made_up.causal_lm(tmp_path, tie_word_embeddings=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    model.model.save_pretrained(tmp_path)
    assert "its file lacks 1 weights, lm_head.weight among them" in refused(tmp_path, "lm")


def test_an_encoder_is_no_language_model(tmp_path: Path) -> None:
    made_up.encoder(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    assert "whose model sees the tokens that it is to predict" in refused(tmp_path, "lm")


def test_packing_is_refused_where_examples_would_see_each_other(tmp_path: Path) -> None:
    probe.require_packable(load(made_up.causal_lm(tmp_path), "lm"), "x")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.OPTConfig(vocab_size=40, max_position_embeddings=16, word_embed_proj_dim=16, **size)
    with pytest.raises(AvilError, match=r"examples in one sequence see each other in the model of model\.path"):
        probe.require_packable(transformers.OPTForCausalLM(config), "x")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (made_up.encoder(tmp_path) / "model.safetensors").write_bytes(b"damaged")
    assert "transformers cannot load it" in refused(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mystery"},
        {"hidden_size": "x"},
        {"hidden_size": 17},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    ],
    ids=str,
)
def test_a_config_that_means_nothing_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    edit(made_up.encoder(tmp_path), "config.json", **changes)
    assert f"model.path is {str(tmp_path)!r}, but" in refused(tmp_path)


def test_code_that_came_with_a_model_is_never_run(tmp_path: Path) -> None:
    code = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    edit(made_up.encoder(tmp_path), "config.json", model_type="mystery", auto_map=code, trust_remote_code=True)
    (tmp_path / "own.py").write_text("raise SystemExit('run')", encoding="utf-8")
    assert "code of its own, which is never run" in refused(tmp_path)


def test_code_that_a_model_would_have_fetched_is_refused(tmp_path: Path) -> None:
    edit(made_up.encoder(tmp_path), "config.json", attn_implementation="owner/kernel")
    assert "names 'owner/kernel', code that would be fetched" in refused(tmp_path)


def test_a_tokenizer_that_does_not_belong_to_the_model_is_refused(tmp_path: Path) -> None:
    made_up.encoder(tmp_path, vocab_size=len(made_up.WORDS) - 1)
    assert "do not belong together" in refused(tmp_path)


def test_a_model_with_a_decoder_is_refused(tmp_path: Path) -> None:
    made_up.encoder(tmp_path)
    config = transformers.T5Config(
        vocab_size=len(made_up.WORDS), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    )
    transformers.T5Model(config).save_pretrained(tmp_path)
    assert "has a decoder too" in refused(tmp_path)


def test_a_random_model_is_not_adapted() -> None:
    with pytest.raises(ValueError, match=r"model\.init is random, but model\.lora freezes the model; train it"):
        CausalLMConfig.model_validate({"path": "x", "init": "random", "lora": True})


@pytest.mark.parametrize(
    ("error", "advice"),
    [(ConnectionError("unreachable"), "there is no network to the hub; give a local"), (OSError("404"), "check")],
)
def test_a_model_that_cannot_be_fetched(error: OSError, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("we could not fetch it") from error

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(AvilError, match=f"'hub:owner/name', but transformers cannot load it: .*; {advice}"):
        loading.load_tokenizer(EncoderConfig(path="hub:owner/name"))
