"""The shared encoder: what it computes, what it keeps, and encoders that cannot be used."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor

from avil_fast.config import EncoderConfig
from avil_fast.errors import AvilError
from avil_fast.tasks import encoder
from avil_fast.tasks.encoder import TextEncoder
from tests.tasks import made_up

IDS = torch.tensor([[2, 5, 14, 3], [2, 9, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up.encoder(tmp_path_factory.mktemp("encoder"))


def built(folder: Path, seed: int = 0, **settings: Any) -> TextEncoder:
    config = EncoderConfig(**({"path": str(folder), "max_length": 16} | settings))
    return encoder.build(config, {"news": 2, "tweets": 3}, seed)[0]


def gradients(model: TextEncoder) -> list[Tensor]:
    torch.manual_seed(0)
    model.train()
    model("news", IDS, MASK).square().sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def test_a_head_reads_the_mean_over_the_tokens_that_are_there(folder: Path) -> None:
    model = built(folder).eval()
    hidden = transformers.AutoModel.from_pretrained(folder).eval()(IDS, MASK).last_hidden_state
    expected = model.heads["tweets"](torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)]))
    torch.testing.assert_close(model("tweets", IDS, MASK), expected)


def test_padding_changes_nothing(folder: Path) -> None:
    model = built(folder).eval()
    torch.testing.assert_close(model("news", IDS, MASK)[1:], model("news", IDS[1:, :3], MASK[1:, :3]))


def test_the_encoder_is_as_saved_in_fp32_and_the_heads_are_the_seeds(tmp_path: Path) -> None:
    made_up.encoder(tmp_path)
    file = tmp_path / "model.safetensors"
    saved = {name: value.half() for name, value in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(saved, file, metadata={"format": "pt"})
    edit(tmp_path, "config.json", dtype="float16")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = built(tmp_path), built(tmp_path), built(tmp_path, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in one.encoder.named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, saved[name].float())
    assert torch.equal(one.heads["news"].weight, same.heads["news"].weight)
    assert not torch.equal(one.heads["news"].weight, other.heads["news"].weight)


def test_the_unused_pooler_does_not_train(folder: Path) -> None:
    model = built(folder)
    gradients(model)
    left_out = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert left_out == {"heads.tweets.weight", "heads.tweets.bias"}


def test_dropout_is_the_encoders(tmp_path: Path) -> None:
    assert built(made_up.encoder(tmp_path / "a")).dropout.p == 0.1
    assert built(made_up.encoder(tmp_path / "b", hidden_dropout_prob=0.3)).dropout.p == 0.3
    assert built(made_up.encoder(tmp_path / "c", classifier_dropout=0.0)).dropout.p == 0


def test_gradient_checkpointing_changes_no_gradient_and_computes_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    forward = transformers.models.bert.modeling_bert.BertIntermediate.forward

    def counted(self: Any, hidden: Tensor) -> Tensor:
        calls.append(1)
        return forward(self, hidden)

    monkeypatch.setattr(transformers.models.bert.modeling_bert.BertIntermediate, "forward", counted)
    kept = gradients(built(folder))
    assert len(calls) == 2
    computed_again = gradients(built(folder, gradient_checkpointing=True))
    assert len(calls) == 2 + 4
    for one, two in zip(kept, computed_again, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_building_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    built(folder)
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()


# Encoders that cannot be used.


def refused(folder: Path, **settings: Any) -> str:
    with pytest.raises(AvilError) as caught:
        built(folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_missing_package_is_answered_with_its_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "needs the package transformers; install it with: pip install 'avil-fast[text]'" in refused(folder)


def test_a_text_longer_than_the_positions_is_refused(folder: Path) -> None:
    assert "model.max_length is 25" in refused(folder, max_length=25)
    built(folder, max_length=24)


def test_a_file_without_some_weights_is_refused(tmp_path: Path) -> None:
    file = made_up.encoder(tmp_path) / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    without_pooler = {name: value for name, value in weights.items() if not name.startswith("pooler")}
    safetensors.torch.save_file(without_pooler, file, metadata={"format": "pt"})
    built(tmp_path)
    del without_pooler["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(without_pooler, file, metadata={"format": "pt"})
    assert "lacks 1 weights, encoder.layer.1.output.dense.weight" in refused(tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (made_up.encoder(tmp_path) / "model.safetensors").write_bytes(b"damaged")
    assert "transformers cannot load it" in refused(tmp_path)


def test_an_unknown_kind_of_model_is_refused(tmp_path: Path) -> None:
    edit(made_up.encoder(tmp_path), "config.json", model_type="mystery")
    assert "transformers cannot load it" in refused(tmp_path)


def test_code_that_came_with_a_model_is_never_run(tmp_path: Path) -> None:
    code = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    edit(made_up.encoder(tmp_path), "config.json", model_type="mystery", auto_map=code)
    (tmp_path / "own.py").write_text("raise SystemExit('run')", encoding="utf-8")
    assert "code of its own, which is never run" in refused(tmp_path)


def test_a_tokenizer_that_does_not_belong_to_the_encoder_is_refused(tmp_path: Path) -> None:
    made_up.encoder(tmp_path, vocab_size=len(made_up.WORDS) - 1)
    assert "do not belong together" in refused(tmp_path)


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    edit(made_up.encoder(tmp_path), "tokenizer_config.json", pad_token=None)
    assert "no padding token" in refused(tmp_path)


def test_a_model_with_a_decoder_is_refused(tmp_path: Path) -> None:
    made_up.encoder(tmp_path)
    config = transformers.T5Config(
        vocab_size=len(made_up.WORDS), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    )
    transformers.T5Model(config).save_pretrained(tmp_path)
    assert "has a decoder too" in refused(tmp_path)
