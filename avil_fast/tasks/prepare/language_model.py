"""A small causal language model for texts on the disk: its shape, and a byte-level tokenizer learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avil_fast.config.text_tasks import SplitFiles, TextTaskConfig
from avil_fast.errors import AvilError, reason
from avil_fast.tasks.text import sources
from avil_fast.tasks.text.packages import require

END = "<|end|>"
"""The token after every text, which also fills batches."""


def prepare(
    files: Sequence[Path], folder: Path, column: str, vocabulary: int, width: int, layers: int, positions: int
) -> int:
    """Write `config.json` of a Llama and its tokenizer into a folder; `model.init: random` makes a model of them.

    Args:
        files: csv, tsv, jsonl or parquet, with texts in a column.
        folder: made if it is not there.
        vocabulary: tokens at most, 256 of which are bytes: no text is unknown.
        width: of the hidden states, a multiple of 64.
        layers: of the model.
        positions: tokens of a text at most.

    Returns:
        How many parameters the model has.

    Raises:
        AvilError: a file cannot be read, a size is wrong, or the folder cannot be written.
    """
    require("transformers", "datasets")
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    for name, value, least, step in (
        ("--width", width, 64, 64),
        ("--layers", layers, 1, 1),
        ("--positions", positions, 8, 1),
        ("--vocabulary", vocabulary, 300, 1),
    ):
        if value < least or value % step:
            multiple = f" and a multiple of {step}" if step > 1 else ""
            raise AvilError(f"{name} is {value}, but must be {least} or more{multiple}")
    task = TextTaskConfig(kind="language_modelling", files=SplitFiles(train=tuple(files)))
    texts = sources.read("texts", task)["train"].column(column, "--column")
    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(
        (text for text in texts if isinstance(text, str)),
        vocab_size=vocabulary,
        special_tokens=[END],
        show_progress=False,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces._tokenizer, eos_token=END, pad_token=END, model_max_length=positions
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["LlamaForCausalLM"],
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except OSError as error:
        raise AvilError(f"{str(folder)!r} cannot be written: {reason(error)}; name another folder") from error
    import torch

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LlamaForCausalLM(config).parameters())
