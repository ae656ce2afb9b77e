"""How to train: what `fit` takes, whose caller brings the model and the tasks."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from avil_fast.config.base import Count, DiskPath, NonNegative, Number, Section, Whole
from avil_fast.config.explain import explain_options
from avil_fast.config.sections import AlphaConfig, DeltasConfig, FinetuneConfig, OptimizerConfig, WeightsConfig
from avil_fast.method_registry import METHODS, find


def _known_method(name: str) -> str:
    if name in METHODS:
        return name
    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f"did you mean {near[0]}?" if near else "set one of them"
    raise ValueError(f"method is {name!r}, but the methods are {', '.join(METHODS)}; {hint}")


MethodName = Annotated[str, AfterValidator(_known_method), Field(json_schema_extra={"enum": list(METHODS)})]


MOST_WORKERS = 1024
"""A machine that is told to start many more hears nothing else."""


class CheckpointsConfig(Section):
    """Saving the run as it goes on, into output_dir/checkpoints, for --resume."""

    minutes: NonNegative | None = 5.0
    """Minutes between two checkpoints. 0: as often as writing allows; null: only when the run is told to stop
    (SIGTERM or SIGINT)."""
    keep: Count = 2
    """Number of checkpoints that are kept, the newest ones, beside that of the last round's end, from where more
    rounds can go on. Each holds the best model so far, too."""
    background: bool = True
    """Copy the state within CPU memory and write it while training goes on, where there is room for the copy."""


class LogConfig(Section):
    """Where a run's rounds are logged besides metrics.jsonl."""

    tensorboard: Literal["auto"] | bool = "auto"
    """Whether rounds are logged into output_dir/tensorboard; auto: where the package tensorboard is installed."""
    wandb: str | None = None
    """Name of a project of Weights & Biases that is told the settings and every round; null sends nothing."""


class TrainConfig(Section):
    """How to train: what `fit` takes, whose caller brings the model and the tasks."""

    method: MethodName = "avil"
    """How the target is trained: by αVIL, or by what it is compared with."""
    options: dict[str, Any] = Field(default={})
    """Settings of the method's own; docs/methods.md says which each method has."""
    preset: Literal["default", "paper"] = "default"
    """Where defaults come from. default: what has done best here; paper: the algorithm as it was published."""
    target: str = "upper_left"
    """Name of the task whose dev loss α is learned on. Tasks on texts have no default: name one of them."""
    rounds: Count = 12
    """Number of rounds. While α is learned, every task trains once in each, and the deltas are merged."""
    sample_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """ρ, the fraction of a task's data that a round trains on."""
    steps_per_task: Literal["equal", "proportional"] | Count = "equal"
    """Optimizer steps of a task in a round. equal: the same for all, ρ times the mean pass, cycling through small
    datasets; proportional: ρ times its own pass; or a number."""
    batch_size: Count = 32
    """Examples in a batch of an optimizer step, over all ranks and accumulation steps."""
    gradient_accumulation_steps: Count = 1
    """Number of passes in which a rank takes its share of a batch, to save memory; the step is the same."""
    eval_batch_size: Count = 512
    """Examples in a batch of evaluations and of the α phase, over all ranks."""
    workers: Annotated[int, Field(ge=0, le=MOST_WORKERS), Number] = 0
    """Number of processes that load data; 0: the run's own process loads it."""
    max_rejected_steps: Count = 5
    """Number of rejected steps of a task in a row after which the run stops. A step whose loss or gradient is not
    finite is rejected: it changes nothing, and is counted."""
    seed: Whole = 0
    """Seed of all random numbers; runs with the same seed agree bit for bit."""
    keep: Literal["best", "last"] = "best"
    """Which round's model is the result: the best on dev, or the last."""
    test_every_round: bool = True
    """Measure the target's test set after every round, and not only at the end; nothing is learned from it."""
    task_vectors: bool = False
    """Keep the deltas of the kept round in the run's folder, for `avil-fast export --task-vectors`. They take as
    many bytes as the model in fp32 for every task and once more."""
    output_dir: DiskPath | None = Path("runs/digits")
    """The run's folder; for a file that does not set it, runs/ and the file's name without its ending. null writes
    nothing: what is printed, or what `fit` returns, is all that is left of the run."""
    overwrite: bool = False
    """Replace a run in output_dir that is finished, or that was stopped and could go on."""
    optimizer: OptimizerConfig = OptimizerConfig()
    alpha: AlphaConfig = AlphaConfig()
    weights: WeightsConfig = WeightsConfig()
    deltas: DeltasConfig = DeltasConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    log: LogConfig = LogConfig()
    rank_timeout: Annotated[float, Field(gt=0, le=1e7)] = 600.0
    """Seconds that a rank waits for the others. Where one does not answer for so long, the run stops on all."""
    deepspeed: DiskPath | None = None
    """Path of DeepSpeed's JSON file, as after --deepspeed_config: the run trains on the launcher's ranks with that
    file's ZeRO stage."""

    @model_validator(mode="after")
    def _options_of_the_method(self) -> TrainConfig:
        if not self.options:
            return self
        options = find(self.method).Options
        try:
            options.model_validate(self.options)
        except ValidationError as error:
            raise ValueError(explain_options(error, self.method, options)) from error
        return self

    @model_validator(mode="after")
    def _vectors_of_one_alpha(self) -> TrainConfig:
        if self.task_vectors and find(self.method).granularity(self) == "layer":
            by = "alpha.granularity: layer" if self.method == "avil" else f"method: {self.method}"
            raise ValueError(
                f"task_vectors is true, but with {by} every layer has coefficients of its own, and the merge.yaml "
                f"of an export has one for each task; set task_vectors: false"
            )
        return self

    @property
    def may_restart(self) -> bool:
        """Whether θ goes back to the start once α is settled, if the target's dev set can be spared."""
        restarts = self.method == "avil" and self.alpha.settled == "restart"
        return restarts and self.alpha.learned_in(self.rounds, dev_can_be_spared=True) < self.rounds

    def warnings(self) -> list[str]:
        """Combinations that are allowed, but known to fail; one sentence each."""
        found: list[str] = []
        if self.method != "avil":
            return found
        if self.alpha.init == "1/n" and self.weights.rule == "additive":
            found.append(
                "alpha.init: 1/n with weights.rule: additive lowers every weight in every round until training "
                "stops; use weights.rule: multiplicative, or alpha.init: one"
            )
        if self.task_vectors and self.may_restart:
            found.append(
                "task_vectors: true keeps those of rounds in which tasks train apart, but once α is settled (by "
                "default, if the target has a test set) they train together; set alpha.settled: merge"
            )
        if self.weights.apply == "loss" and self.weights.rule != "off" and self.optimizer.name != "sgd":
            found.append(
                f"weights.apply: loss does nothing under {self.optimizer.name}, which ignores the scale of the "
                f"loss; use weights.apply: lr"
            )
        return found
