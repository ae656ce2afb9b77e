"""A decoder of a well-known family, read from its config.json: its layers, and how many elements they have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from avil_fast.config.base import Count


class _Rope(BaseModel):
    """Rotary positions that turn the whole of a head; what else is said of them changes no size."""

    type: Literal["default", "linear", "llama3", "yarn"] = "default"
    rope_type: Literal["default", "linear", "llama3", "yarn"] = "default"
    partial_rotary_factor: Literal[1] = 1


class _Family(BaseModel):
    """The fields of a config.json that are known to decide sizes, and those known not to; no others."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    vocab_size: Count
    tie_word_embeddings: bool = False
    hidden_act: Literal["silu"] = "silu"
    attention_dropout: Literal[0] = 0
    rope_scaling: _Rope | None = None
    rope_parameters: _Rope | None = None
    architectures: Any = None
    bos_token_id: Any = None
    dtype: Any = None
    eos_token_id: Any = None
    initializer_range: Any = None
    max_position_embeddings: Any = None
    pad_token_id: int | None = None
    rms_norm_eps: Any = None
    rope_theta: Any = None
    torch_dtype: Any = None
    transformers_version: Any = None
    use_cache: Any = None

    @model_validator(mode="before")
    @classmethod
    def _whole_dropout(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        return {key: 0 if key == "attention_dropout" and value == 0 else value for key, value in given.items()}


class _Llama(_Family):
    model_type: Literal["llama"]
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    pretraining_tp: Literal[1] = 1


class _Mistral(_Family):
    model_type: Literal["mistral"]
    num_key_value_heads: Count
    head_dim: Count | None = None
    sliding_window: Count | None = None


class _Qwen2(_Family):
    model_type: Literal["qwen2"]
    num_key_value_heads: Count
    layer_types: list[Literal["full_attention"]] | None = None
    max_window_layers: Any = None
    sliding_window: Any = None
    use_sliding_window: Literal[False] = False


class _Qwen3(_Qwen2):
    model_type: Literal["qwen3"]  # type: ignore[assignment]
    head_dim: Count
    attention_bias: bool = False


_FAMILIES: TypeAdapter[Any] = TypeAdapter(
    Annotated[_Llama | _Mistral | _Qwen2 | _Qwen3, Field(discriminator="model_type")]
)


@dataclass(frozen=True)
class Decoder:
    """A decoder with RMS norms, rotary positions and a gated MLP, all of whose layers are the same."""

    hidden: int
    inner: int
    """Width of the MLP."""
    layers: int
    heads: int
    groups: int
    """Heads of keys and of values."""
    head: int
    """Width of a head."""
    vocabulary: int
    tied: bool
    """Whether input and output embeddings are one."""
    normed_heads: bool
    """Whether queries and keys have a norm of their own."""
    biased: tuple[bool, bool, bool]
    """Whether there are biases: of queries, keys and values; of attention's output; in the MLP."""

    @property
    def queries(self) -> int:
        return self.heads * self.head

    @property
    def keys(self) -> int:
        return self.groups * self.head

    @property
    def layer(self) -> int:
        """Elements."""
        norms = 2 * self.hidden + 2 * self.head * self.normed_heads
        weights = self.hidden * (2 * self.queries + 2 * self.keys + 3 * self.inner)
        of_inputs, of_output, of_mlp = self.biased
        biases = of_inputs * (self.queries + 2 * self.keys) + of_output * self.hidden
        return weights + norms + biases + of_mlp * (2 * self.inner + self.hidden)

    @property
    def whole(self) -> int:
        """Elements of all parameters."""
        return self.layers * self.layer + self.embedding * (2 - self.tied) + self.hidden

    @property
    def embedding(self) -> int:
        """Elements."""
        return self.vocabulary * self.hidden

    @property
    def largest(self) -> int:
        """Elements of the largest parameter."""
        return self.hidden * max(self.vocabulary, self.inner, self.queries)

    @property
    def buffers(self) -> int:
        """Bytes: the frequencies of rotary positions in fp32, and a copy."""
        return 2 * 4 * len(range(0, self.head, 2))


def read(folder: Path) -> Decoder | None:
    """The decoder that a folder's config.json describes; None where it is not one that is surely known here."""
    try:
        found = _FAMILIES.validate_python(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    hidden, heads = found.hidden_size, found.num_attention_heads
    groups = found.num_key_value_heads or heads
    if hidden % heads or heads % groups:
        return None
    attention_bias, mlp_bias = getattr(found, "attention_bias", False), getattr(found, "mlp_bias", False)
    return Decoder(
        hidden=hidden,
        inner=found.intermediate_size,
        layers=found.num_hidden_layers,
        heads=heads,
        groups=groups,
        head=getattr(found, "head_dim", None) or hidden // heads,
        vocabulary=found.vocab_size,
        tied=found.tie_word_embeddings,
        normed_heads=found.model_type == "qwen3",
        biased=(attention_bias or found.model_type == "qwen2", attention_bias, mlp_bias),
    )
