"""How a task is trained, α is learned, and deltas are stored: the sections of a run's settings."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from avil_fast.config.base import Count, NonNegative, Positive, Section, Whole
from avil_fast.config.settings import require_ordered

Bounds = tuple[float, float]
Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Section):
    """How every task trains within a round."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Positive = 1e-3
    momentum: NonNegative = 0.0
    """Used by SGD only."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Of Adam and AdamW."""
    eps: Positive = 1e-8
    """Of Adam and AdamW."""
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None
    """Clip the gradient to this norm, over shared parameters and the task's head together."""
    backend: Literal["torch", "deepspeed"] = "torch"
    """deepspeed: under ZeRO, its FusedAdam on a GPU, or its CPUAdam where the masters are on the CPU; compiled at
    first use."""
    moments: Literal["per_task", "reset"] = "per_task"
    """Keep each task's moments from round to round, or start every task afresh (less memory)."""


FEWEST_ROUNDS = 6
"""Of a run in which α settles by itself: with fewer, no round can be spared for learning α only."""


class AlphaConfig(Section):
    """The α phase: gradient descent on the target's dev loss at θ + Σ α_i δ_i."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Positive = 0.3
    momentum: NonNegative = 0.0
    """Of SGD."""
    steps: Whole = 10
    """0 leaves every α at its start."""
    init: Literal["one", "1/n"] = "one"
    """Where every α starts in each round, for n tasks."""
    bounds: Bounds | None = (0.0, 2.0)
    """α is clipped to these after every step."""
    dev_examples: Count | None = None
    """Draw this many dev examples anew for each step; null takes the whole dev set. Of an iterable of batches a
    step takes one, whatever the number."""
    rounds: Literal["auto"] | Count | None = "auto"
    """Learn α in so many rounds, the first ones; null: in all. In those that follow, α stays at its mean over the
    later half of these (the target's at half of `init` or above), and the target trains on its dev set, too.
    Nothing is held out by then, so the last round and the last epoch of the fine-tune are the result. auto: the
    first third (a twelfth, one at least, with `settled: restart`), if there are six rounds or more and the target
    has a test set to judge by, else all."""
    settled: Literal["restart", "merge"] = "restart"
    """The rounds that follow. restart: θ and the moments go back to where the run began, and the tasks train
    together from there, batch by batch; one whose α is at least half of `init` has as many steps as the target,
    another in proportion less, and no delta is taken. merge: each task goes on by itself from where θ is, and the
    deltas are merged with the α."""
    granularity: Literal["model", "layer"] = "model"
    """model: one α for each task. layer: one for each task and layer, from the same backward pass; a layer is a
    numbered module, such as `encoder.layer.3`, or one beside these. More numbers to learn on the same dev set."""
    target_head: Literal["trained", "scaled"] = "scaled"
    """The target's head after a round: as its training left it, or its change scaled by the target's α."""

    @model_validator(mode="after")
    def _ordered(self) -> AlphaConfig:
        require_ordered("alpha.bounds", self.bounds)
        return self

    def learned_in(self, rounds: int, dev_can_be_spared: bool) -> int:
        """In how many of a run's rounds, the first ones, α is learned."""
        if self.rounds is None:
            return rounds
        if self.rounds != "auto":
            return min(self.rounds, rounds)
        settles = rounds >= FEWEST_ROUNDS and dev_can_be_spared
        return math.ceil(rounds / (12 if self.settled == "restart" else 3)) if settles else rounds


class WeightsConfig(Section):
    """Task weights w_i, all 1 at the start, updated from α after each round if `rule` is on."""

    rule: Literal["additive", "multiplicative", "off"] = "off"
    """additive: w_i + η(α_i - 1). multiplicative: w_i · (α_i / α_init)^η. off: stay at 1, so that α alone
    decides. On the digits the multiplicative rule starves useful auxiliaries within a few rounds: a task
    turned down makes small deltas, and a small delta's α stays near its start, useful or not."""
    lr: NonNegative = 1.0
    """η, the step size of the rule."""
    apply: Literal["loss", "lr", "sampling"] = "lr"
    """What w_i multiplies: the task's loss, its learning rate, or its number of steps."""
    normalize: bool = True
    """Rescale to mean 1 before clipping."""
    bounds: Bounds | None = (0.05, 4.0)
    target_min: float | None = 0.5
    """A higher floor for the target."""

    @field_validator("rule", mode="before")
    @classmethod
    def _off_is_no_boolean(cls, rule: Any) -> Any:
        return "off" if rule is False else rule  # YAML 1.1 reads a bare `off` as false

    @model_validator(mode="after")
    def _ordered(self) -> WeightsConfig:
        require_ordered("weights.bounds", self.bounds)
        unbounded = self.rule == "additive" if self.bounds is None else self.bounds[0] < 0
        if self.apply != "loss" and self.rule != "off" and unbounded:
            raise ValueError(
                f"weights.bounds is {self.bounds}, but weights.apply: {self.apply} with the {self.rule} "
                f"rule needs a lower bound of at least 0; set e.g. [0.05, 4]"
            )
        return self


class DeltasConfig(Section):
    """How the bank stores deltas, and where."""

    dtype: Literal["fp32", "bf16", "int8", "fp8"] = "fp32"
    """int8, fp8 (e4m3): symmetric, one fp32 scale per 256 elements; a quarter of the memory. int8 is more
    accurate."""
    device: Literal["model", "cpu"] = "model"
    """model: where the model is. cpu: pinned memory beside a model on a GPU, for deltas that the GPU has no room
    for; they are streamed to it twice in every α step."""


class FinetuneConfig(Section):
    """Training on the target alone after the last round. Where dev is held out, the best epoch on dev is kept, or
    none of them; else the last one."""

    epochs: Whole = 10
    """Passes over the target's data with the learning rate decaying linearly to 0."""
    data: Literal["train", "train+dev"] = "train"
    """train+dev: the dev set becomes training data here. It does anyway where it became that in the rounds
    (`alpha.rounds`); dev figures of the final model are of data that it was trained on, then."""
