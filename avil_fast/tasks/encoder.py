"""A transformers encoder that several text tasks share, with one linear head per task."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from avil_fast.config import EncoderConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.batches import derive_seed
from avil_fast.tasks.encoder_path import resolve


class TextEncoder(nn.Module):
    """The mean over a text's tokens of the encoder's last hidden states, read by the task's head.

    Args:
        encoder: a transformers encoder; its pooler, if it has one, is not used and does not train.
        outputs: classes by task.
    """

    def __init__(self, encoder: Any, outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.encoder = encoder
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler.requires_grad_(False)
        self.dropout = nn.Dropout(_dropout(encoder.config))
        features = encoder.config.hidden_size
        self.heads = nn.ModuleDict({task: nn.Linear(features, classes) for task, classes in outputs.items()})
        self.heads.to(next(encoder.parameters()).dtype)

    def forward(self, task: str, input_ids: Tensor, attention_mask: Tensor, **more: Tensor) -> Tensor:
        """Logits [batch, classes] of a task for token ids and a mask (1: a token, 0: padding), both int64
        [batch, length]; `more` is what else the tokenizer makes for this encoder, such as token_type_ids."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        logits: Tensor = self.heads[task](self.dropout(mean))
        return logits


def build(
    config: EncoderConfig, outputs: Mapping[str, int], seed: int, zero3: Mapping[str, Any] | None = None
) -> tuple[TextEncoder, Any]:
    """The model in fp32, its encoder as it was saved and its heads fresh, and the encoder's tokenizer.

    Args:
        config: where the encoder lies, and how it reads.
        outputs: classes by task.
        seed: of the heads.
        zero3: DeepSpeed's configuration where ZeRO stage 3 is on; each rank then holds its share of the
            encoder only, from the start, in ZeRO's dtype.

    Raises:
        AvilError: a package is missing, or the folder holds no encoder that can be used.
    """
    require("transformers")
    import transformers

    source, fetch = resolve(config.path)
    options = {"local_files_only": not fetch, "trust_remote_code": False}
    with torch.random.fork_rng(devices=[]), _quiet(), _sharded(zero3), _as_sentence(config.path):
        torch.manual_seed(derive_seed(seed, "model"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
        encoder, report = transformers.AutoModel.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True, **options
        )
    _check(config, encoder, tokenizer, report["missing_keys"])
    if config.gradient_checkpointing:
        _checkpoint(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "heads"))
        return TextEncoder(encoder, outputs), tokenizer


def require(*packages: str) -> None:
    """Refuse to go on without a package that the extra `text` brings."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise AvilError(
                f"model.name is 'encoder', which needs the package {package}; "
                f"install it with: pip install 'avil-fast[text]'"
            )


def _check(config: EncoderConfig, encoder: Any, tokenizer: Any, missing: Any) -> None:
    where = f"model.path is {config.path!r}, but"
    if encoder.config.is_encoder_decoder:
        raise AvilError(f"{where} that model has a decoder too; name an encoder, such as a BERT")
    lost = sorted(key for key in missing if not key.startswith("pooler."))
    if lost:
        raise AvilError(f"{where} its file lacks {len(lost)} weights, {lost[0]} among them; fetch it again")
    if tokenizer.pad_token is None:
        raise AvilError(f"{where} its tokenizer has no padding token; name another encoder")
    if len(tokenizer) > encoder.config.vocab_size:
        raise AvilError(
            f"{where} its tokenizer knows {len(tokenizer)} tokens and its encoder {encoder.config.vocab_size}; "
            f"the two do not belong together"
        )
    longest = min(tokenizer.model_max_length, getattr(encoder.config, "max_position_embeddings", None) or 1 << 30)
    if config.max_length > longest:
        raise AvilError(
            f"model.max_length is {config.max_length}, but {config.path!r} reads {longest} tokens at most; "
            f"lower it"
        )


def _checkpoint(encoder: Any) -> None:
    how = {"use_reentrant": False}
    if hasattr(encoder, "activation_checkpointing_enable"):  # its name from late releases of transformers 5 on
        encoder.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:
        encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)


def _dropout(config: Any) -> float:
    """What the encoder's own configuration says for a classifier, or for its hidden states."""
    for name in ("classifier_dropout", "hidden_dropout_prob", "dropout"):
        value = getattr(config, name, None)
        if value is not None:
            return float(value)
    return 0.0


@contextlib.contextmanager
def _sharded(zero3: Mapping[str, Any] | None) -> Iterator[None]:
    """While this lasts, transformers gives each rank its share of a model only."""
    if zero3 is None:
        yield
        return
    require("accelerate")
    from transformers.integrations import HfDeepSpeedConfig

    keep = HfDeepSpeedConfig(dict(zero3))  # transformers holds a weak reference to it
    yield
    del keep


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and notes; what matters of them is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _as_sentence(path: str) -> Iterator[None]:
    """What transformers says about a folder that it cannot load, in one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        said = " ".join(str(error).split())
        if "trust_remote_code" in said:
            said = "it needs code of its own, which is never run; name an encoder that transformers knows"
        raise AvilError(f"model.path is {path!r}, but transformers cannot load it: {said}") from error
