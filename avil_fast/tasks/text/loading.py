"""Models and tokenizers out of folders that transformers saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from avil_fast.config.model import CausalLMConfig, EncoderConfig, TextModelConfig
from avil_fast.errors import AvilError, reason
from avil_fast.randomness import derive_seed
from avil_fast.tasks.text import probe
from avil_fast.tasks.text.model_path import HUB, hub_advice, resolve
from avil_fast.tasks.text.packages import quiet, require

Zero3 = Mapping[str, Any] | None
"""DeepSpeed's configuration where ZeRO stage 3 is on: each rank then holds its share of a model from the start."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class LoadedModel:
    """A model, and which of its parameters the folder did not hold."""

    model: Any
    missing: frozenset[str]


def load_tokenizer(config: TextModelConfig) -> Any:
    """The tokenizer of a model.

    Raises:
        AvilError: a package is missing, or the folder holds no tokenizer that can be used.
    """
    require("transformers")
    import transformers

    source, options = _source(config)
    with quiet(), _as_sentence(config.path):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    if tokenizer.pad_token is None:  # any will do: it is masked and not learned
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    _check_length(config, tokenizer.model_max_length)
    return tokenizer


def settings_of(config: TextModelConfig, tokenizer: Any = None, **more: Any) -> Any:
    """transformers' configuration of a model, before it is made.

    Args:
        tokenizer: whose padding token the model is to know.
        **more: settings that replace those of the folder.

    Raises:
        AvilError: it cannot be read, or names code that would be fetched.
    """
    import transformers

    source, options = _source(config)
    with quiet(), _as_sentence(config.path):
        settings = transformers.AutoConfig.from_pretrained(source, **options, **more)
    for name in ("_attn_implementation", "_attn_implementation_internal", "_experts_implementation"):
        value = getattr(settings, name, None)
        if isinstance(value, str) and "/" in value:
            raise AvilError(
                f"model.path is {config.path!r}, whose config.json names {value!r}, code that would be fetched "
                f"and run; take it out"
            )
    if isinstance(config, EncoderConfig) and settings.is_encoder_decoder:
        raise AvilError(
            f"model.path is {config.path!r}, but that model has a decoder too; name an encoder, such as a BERT"
        )
    if isinstance(config, EncoderConfig) and tokenizer is not None and settings.pad_token_id is not None:
        settings.pad_token_id = tokenizer.pad_token_id  # now: some models count positions from it
    return settings


def class_names(settings: Any) -> tuple[str, ...]:
    """The classes of a model, by its configuration, in the order of its outputs."""
    names: dict[int, str] = settings.id2label or {}
    return tuple(names[number] for number in sorted(names))


def load_encoder(
    config: EncoderConfig, tokenizer: Any, classes: Sequence[str], outputs: int, seed: int, zero3: Zero3 = None
) -> LoadedModel:
    """A model for classification with so many outputs.

    Its head is the folder's, if that has one for the same classes in the same order.

    Raises:
        AvilError: the folder holds no model of this kind that can be used.
    """
    import transformers

    saved = settings_of(config, tokenizer)
    settings = settings_of(config, tokenizer, num_labels=outputs)
    loaded = _load(config, transformers.AutoModelForSequenceClassification, settings, tokenizer, seed, zero3)
    model = loaded.model
    body = f"{model.base_model_prefix}."
    _refuse_missing(config, {key for key in loaded.missing if key.startswith(body) and ".pooler." not in key})
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id  # by which models that read the last token find it
    if getattr(model.config, "type_vocab_size", 2) in (0, 1):  # a second kind of token would be out of range
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
    same = class_names(saved) == tuple(classes) if classes else saved.problem_type == "regression"
    heads = {name for name, _ in model.named_parameters() if not name.startswith(body)}
    return loaded if same else LoadedModel(model, loaded.missing | heads)


def load_causal_lm(config: CausalLMConfig, tokenizer: Any, seed: int, zero3: Zero3 = None) -> Any:
    """A model that predicts the next token, as it was saved or fresh.

    A fresh one comes whole under ZeRO stage 3 too: drawn in shares, it would have other numbers than on one
    process.

    Raises:
        AvilError: the folder holds no model of this kind that can be used.
    """
    import transformers

    if config.init == "saved":
        settings = settings_of(config, tokenizer)
        loaded = _load(config, transformers.AutoModelForCausalLM, settings, tokenizer, seed, zero3)
        model = loaded.model
        _refuse_missing(config, loaded.missing)
    else:
        with torch.random.fork_rng(devices=[]), quiet(), _as_sentence(config.path):
            torch.manual_seed(derive_seed(seed, "model"))
            kind = transformers.AutoModelForCausalLM
            model = kind.from_config(settings_of(config, tokenizer), dtype=DTYPES[config.dtype])
        _check(config, model, tokenizer)
    if zero3 is None or config.init == "random":
        probe.require_causal(model, config.path)
    return model


def _load(
    config: TextModelConfig, kind: Any, settings: Any, tokenizer: Any, seed: int, zero3: Zero3
) -> LoadedModel:
    source, options = _source(config)
    with torch.random.fork_rng(devices=[]), quiet(), _sharded(zero3), _as_sentence(config.path):
        torch.manual_seed(derive_seed(seed, "model"))
        model, report = kind.from_pretrained(
            source,
            config=settings,
            dtype=DTYPES[config.dtype],
            output_loading_info=True,
            ignore_mismatched_sizes=isinstance(config, EncoderConfig),
            weights_only=True,  # never unpickle anything but tensors
            **options,
        )
    _check(config, model, tokenizer)
    return LoadedModel(
        model, frozenset([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    )


def _refuse_missing(config: TextModelConfig, missing: Iterable[str]) -> None:
    if lost := sorted(missing):
        raise AvilError(
            f"model.path is {config.path!r}, but its file lacks {len(lost)} weights, {lost[0]} among them; "
            f"fetch it again"
        )


def _source(config: TextModelConfig) -> tuple[str, dict[str, Any]]:
    source, fetch = resolve(config.path)
    return source, {"local_files_only": not fetch, "trust_remote_code": False}


def _check(config: TextModelConfig, model: Any, tokenizer: Any) -> None:
    vocabulary = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > vocabulary:
        raise AvilError(
            f"model.path is {config.path!r}, but its tokenizer knows {len(tokenizer)} tokens and its model "
            f"{vocabulary}; the two do not belong together"
        )
    _check_length(config, getattr(model.config, "max_position_embeddings", None) or 0)
    for name, table in model.named_modules():
        if name.endswith("position_embeddings") and getattr(table, "padding_idx", None) is not None:
            _check_length(config, table.num_embeddings - table.padding_idx - 1)  # positions count from there


def _check_length(config: TextModelConfig, longest: int) -> None:
    if 0 < longest < config.max_length:
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
    except Exception as error:  # of all kinds, by what a folder's files ask for
        said = reason(error)
        advice = "look into the folder, or fetch it again"
        if path.startswith(HUB):
            advice = hub_advice(error, otherwise="check the name, and that all of it is there")
        if "trust_remote_code" in said:
            said, advice = "it needs code of its own, which is never run", "name a model that transformers knows"
        raise AvilError(f"model.path is {path!r}, but transformers cannot load it: {said}; {advice}") from error
