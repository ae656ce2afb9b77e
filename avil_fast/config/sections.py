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
    """Kind of the optimizer."""
    lr: Positive = 1e-3
    """Learning rate: constant in the rounds, decayed to 0 in the fine-tune."""
    momentum: NonNegative = 0.0
    """Momentum of SGD; other optimizers ignore it."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay rates of Adam's moments."""
    eps: Positive = 1e-8
    """Added to Adam's denominator."""
    weight_decay: NonNegative = 0.0
    """Weight decay: decoupled from the gradient under adamw, an L2 penalty under sgd and adam."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient, over shared parameters and the task's head together; a larger one is scaled
    down to it. null: no limit."""
    backend: Literal["torch", "deepspeed"] = "torch"
    """Library that the optimizer comes from. deepspeed: under ZeRO, its FusedAdam on a GPU, or its CPUAdam where
    the masters are on the CPU; compiled at first use."""
    moments: Literal["per_task", "reset"] = "per_task"
    """What becomes of a task's moments after a round. per_task: they are kept for its next one; reset: every task
    starts afresh, which takes less memory."""


FEWEST_ROUNDS = 6
"""Of a run in which α settles by itself: with fewer, no round can be spared for learning α only."""


class AlphaConfig(Section):
    """The α phase: gradient descent on the target's dev loss at θ + Σ α_i δ_i."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """Kind of the optimizer of α."""
    lr: Positive = 0.3
    """Learning rate of α."""
    momentum: NonNegative = 0.0
    """Momentum of SGD; other optimizers ignore it."""
    steps: Whole = 10
    """Gradient steps on α in a round; 0 leaves every α at its start."""
    init: Literal["one", "1/n"] = "one"
    """Where every α starts in each round: at 1, or at 1/n for n tasks."""
    bounds: Bounds | None = (0.0, 2.0)
    """Least and largest α, to which it is clipped after every step; null: no limit."""
    dev_examples: Count | None = None
    """Number of dev examples drawn anew for each step; null takes the whole dev set. Of an iterable of batches a
    step takes one, whatever the number."""
    rounds: Literal["auto"] | Count | None = "auto"
    """Number of rounds, the first ones, in which α is learned; null: all. In those that follow, α stays at its
    mean over the later half of these (the target's at half of `init` or above), and the target trains on its dev
    set, too. Nothing is held out by then, so the last round and the last epoch of the fine-tune are the result.
    auto: the first third (a twelfth, one at least, with `settled: restart`), if there are six rounds or more and
    the target has a test set to judge by, else all."""
    settled: Literal["restart", "merge"] = "restart"
    """What the rounds after `alpha.rounds` do. restart: θ and the moments go back to where the run began, and the
    tasks train together from there, batch by batch; one whose α is at least half of `init` has as many steps as
    the target, another in proportion less, and no delta is taken. merge: each task goes on by itself from where θ
    is, and the deltas are merged with the α."""
    granularity: Literal["model", "layer"] = "model"
    """What has an α of its own. model: each task. layer: each layer of each task, from the same backward pass; a
    layer is a numbered module, such as `encoder.layer.3`, or one beside these. That is more numbers to learn on
    the same dev set."""
    target_head: Literal["trained", "scaled"] = "scaled"
    """The target's head after a round. trained: as training left it; scaled: its change times the target's α."""

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
    """How w_i follows α_i. additive: w_i + η(α_i - 1). multiplicative: w_i · (α_i / α_init)^η. off: weights stay
    at 1, so that α alone decides. On the digits the multiplicative rule starves useful auxiliaries within a few
    rounds: a task turned down makes small deltas, and a small delta's α stays near its start, useful or not."""
    lr: NonNegative = 1.0
    """η, the step size of the rule."""
    apply: Literal["loss", "lr", "sampling"] = "lr"
    """What w_i multiplies: the task's loss, its learning rate, or its number of steps."""
    normalize: bool = True
    """Rescale the weights to mean 1, before they are clipped to `weights.bounds`."""
    bounds: Bounds | None = (0.05, 4.0)
    """Least and largest weight; null: no limit."""
    target_min: float | None = 0.5
    """Least weight of the target, beside `weights.bounds`; null: none of its own."""

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
    """Type of the stored deltas. int8, fp8 (e4m3): symmetric, one fp32 scale per 256 elements; a quarter of the
    memory of fp32. int8 is more accurate."""
    device: Literal["model", "cpu"] = "model"
    """Where deltas are stored. model: where the model is. cpu: pinned memory beside a model on a GPU, for deltas
    that the GPU has no room for; they are streamed to it twice in every α step."""


class FinetuneConfig(Section):
    """Training on the target alone after the last round. Where dev is held out, the best epoch on dev is kept, or
    none of them; else the last one."""

    epochs: Whole = 10
    """Passes over the target's data, with a learning rate that decays linearly to 0; 0: no fine-tune."""
    data: Literal["train", "train+dev"] = "train"
    """What the fine-tune trains on. train+dev: the dev set becomes training data here. It does anyway where it
    became that in the rounds (`alpha.rounds`); dev figures of the final model are of data that it was trained on,
    then."""
