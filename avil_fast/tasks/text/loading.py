"""Models and tokenizers out of folders that transformers saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError

from avil_fast.errors import AvilError
from avil_fast.model_config import CausalLMConfig, EncoderConfig
from avil_fast.tasks.batches import derive_seed
from avil_fast.tasks.text.model_path import resolve
from avil_fast.tasks.text.packages import quiet, require

Zero3 = Mapping[str, Any] | None
"""DeepSpeed's configuration where ZeRO stage 3 is on: each rank then holds its share of a model from the start."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Loaded:
    """A model, and which of its parameters the folder did not hold."""

    model: Any
    missing: frozenset[str]


def load_tokenizer(config: EncoderConfig | CausalLMConfig) -> Any:
    """The tokenizer of a model.

    Raises:
        AvilError: a package is missing, or the folder holds no tokenizer that can be used.
    """
    require("transformers")
    import transformers

    source, options = _source(config)
    with quiet(), _as_sentence(config.path):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    if tokenizer.pad_token is None:
        if isinstance(config, EncoderConfig) or tokenizer.eos_token is None:
            raise AvilError(f"model.path is {config.path!r}, but its tokenizer has no padding token; name another")
        tokenizer.pad_token = tokenizer.eos_token  # masked and not learned
    tokenizer.padding_side = "right"
    _check_length(config, tokenizer.model_max_length)
    tokenizer.model_max_length = config.max_length  # so that who loads the result reads as much
    return tokenizer


def load_encoder(config: EncoderConfig, tokenizer: Any, outputs: int, seed: int, zero3: Zero3 = None) -> Loaded:
    """A model for classification with so many outputs; its head is the folder's if that has one of this size.

    Raises:
        AvilError: the folder holds no model of this kind that can be used.
    """
    return _load(config, "AutoModelForSequenceClassification", tokenizer, seed, zero3, {"num_labels": outputs})


def load_causal_lm(config: CausalLMConfig, tokenizer: Any, seed: int, zero3: Zero3 = None) -> Any:
    """A model that predicts the next token, as it was saved or fresh.

    Raises:
        AvilError: the folder holds no model of this kind that can be used.
    """
    if config.init == "saved":
        return _load(config, "AutoModelForCausalLM", tokenizer, seed, zero3, {}).model
    import transformers

    source, options = _source(config)
    with torch.random.fork_rng(devices=[]), quiet(), _sharded(zero3), _as_sentence(config.path):
        torch.manual_seed(derive_seed(seed, "model"))
        settings = transformers.AutoConfig.from_pretrained(source, **options)
        model = transformers.AutoModelForCausalLM.from_config(settings, dtype=DTYPES[config.dtype])
    _check(config, model, tokenizer)
    return model


def prepare_(model: Any, config: EncoderConfig | CausalLMConfig) -> None:
    """No cache of keys, which training has no use for; gradient checkpointing and compilation, if asked for."""
    model.config.use_cache = False  # with one, transformers does not look for packed examples
    if config.gradient_checkpointing:
        how = {"use_reentrant": False}
        if hasattr(model, "activation_checkpointing_enable"):  # its name from late releases of transformers 5 on
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
    if config.compile:
        model.compile(dynamic=True)  # batches have all lengths


def _load(
    config: EncoderConfig | CausalLMConfig,
    kind: str,
    tokenizer: Any,
    seed: int,
    zero3: Zero3,
    more: dict[str, Any],
) -> Loaded:
    import transformers

    source, options = _source(config)
    with torch.random.fork_rng(devices=[]), quiet(), _sharded(zero3), _as_sentence(config.path):
        torch.manual_seed(derive_seed(seed, "model"))
        settings = transformers.AutoConfig.from_pretrained(source, **options, **more)
        if isinstance(config, EncoderConfig) and settings.is_encoder_decoder:
            raise AvilError(
                f"model.path is {config.path!r}, but that model has a decoder too; name an encoder, such as a BERT"
            )
        model, report = getattr(transformers, kind).from_pretrained(
            source,
            config=settings,
            dtype=DTYPES[config.dtype],
            output_loading_info=True,
            ignore_mismatched_sizes=isinstance(config, EncoderConfig),
            **options,
        )
    body = f"{model.base_model_prefix}."
    missing = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    lost = sorted(key for key in missing if key.startswith(body) and ".pooler." not in key)
    if lost:
        raise AvilError(
            f"model.path is {config.path!r}, but its file lacks {len(lost)} weights, {lost[0]} among them; "
            f"fetch it again"
        )
    _check(config, model, tokenizer)
    return Loaded(model, frozenset(missing))


def _source(config: EncoderConfig | CausalLMConfig) -> tuple[str, dict[str, Any]]:
    source, fetch = resolve(config.path)
    return source, {"local_files_only": not fetch, "trust_remote_code": False}


def _check(config: EncoderConfig | CausalLMConfig, model: Any, tokenizer: Any) -> None:
    vocabulary = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > vocabulary:
        raise AvilError(
            f"model.path is {config.path!r}, but its tokenizer knows {len(tokenizer)} tokens and its model "
            f"{vocabulary}; the two do not belong together"
        )
    _check_length(config, getattr(model.config, "max_position_embeddings", None) or 1 << 30)
    model.config.pad_token_id = tokenizer.pad_token_id


def _check_length(config: EncoderConfig | CausalLMConfig, longest: int) -> None:
    if config.max_length > longest:
        raise AvilError(
            f"model.max_length is {config.max_length}, but {config.path!r} reads {longest} tokens at most; "
            f"lower it"
        )


@contextlib.contextmanager
def _sharded(zero3: Zero3) -> Iterator[None]:
    """While this lasts, transformers gives each rank its share of a model only."""
    if zero3 is None:
        yield
        return
    require("accelerate", extra="zero")
    from transformers.integrations import HfDeepSpeedConfig

    keep = HfDeepSpeedConfig(dict(zero3))  # transformers holds a weak reference to it
    yield
    del keep


@contextlib.contextmanager
def _as_sentence(path: str) -> Iterator[None]:
    """What transformers says about a folder that it cannot load, in one sentence."""
    try:
        yield
    except AvilError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        said = " ".join(str(error).split())
        if "trust_remote_code" in said:
            said = "it needs code of its own, which is never run; name a model that transformers knows"
        raise AvilError(f"model.path is {path!r}, but transformers cannot load it: {said}") from error
