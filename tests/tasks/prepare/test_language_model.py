"""A small language model and its tokenizer out of texts."""

from pathlib import Path

import pytest
import transformers

from avil_fast.errors import AvilError
from avil_fast.tasks.prepare.language_model import END, prepare
from tests.tasks import made_up

SIZES = {"vocabulary": 300, "width": 64, "layers": 1, "positions": 32}


def test_it_can_be_trained_and_knows_every_text(tmp_path: Path) -> None:
    folder = made_up.task(tmp_path / "news")
    count = prepare([folder / "train.csv", folder / "dev.csv"], tmp_path / "model", "text", **SIZES)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert count == sum(parameter.numel() for parameter in model.parameters())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert len(tokenizer) <= 300
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == (END, END, None)
    assert tokenizer.decode(tokenizer("ünseen 字")["input_ids"]) == "ünseen 字"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 100}, "--width is 100, but must be 64 or more and a multiple of 64"),
        ({"layers": 0}, "--layers is 0, but must be 1 or more"),
        ({"vocabulary": 10}, "--vocabulary is 10, but must be 300 or more"),
    ],
)
def test_a_wrong_size_is_one_sentence(changes: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(AvilError, match=message):
        prepare([tmp_path / "x.csv"], tmp_path / "model", "text", **SIZES | changes)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    folder = made_up.task(tmp_path / "news")
    with pytest.raises(AvilError, match="has no column 'body', but 'text', 'label'; set --column"):
        prepare([folder / "train.csv"], tmp_path / "model", "body", **SIZES)
