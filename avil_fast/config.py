"""One model of a run: defaults, presets, YAML in, overrides on top, JSON schema out.

A value is taken from the first of: an override, the YAML file, the preset, the field's default. The
defaults are the strongest single configuration in the evidence so far; `preset: paper` is the published
algorithm.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from avil_fast.errors import AvilError
from avil_fast.methods import METHODS, find
from avil_fast.model_config import CausalLMConfig, ConvNetConfig, EncoderConfig
from avil_fast.presets import PRESETS
from avil_fast.section import Count, DiskPath, NonNegative, Positive, Section, Whole
from avil_fast.settings import (
    assign,
    explain,
    explain_options,
    is_known,
    known_names,
    merge,
    require_ordered,
    unknown_setting,
)
from avil_fast.task_config import DigitsConfig, IdxConfig, TextTasksConfig
from avil_fast.yaml_text import NoYaml, parse, written

Bounds = tuple[float, float]
Beta = Annotated[float, Field(ge=0, lt=1)]


def _known_method(name: str) -> str:
    if name in METHODS:
        return name
    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f"did you mean {near[0]}?" if near else "set one of them"
    raise ValueError(f"method is {name!r}, but the methods are {', '.join(METHODS)}; {hint}")


MethodName = Annotated[str, AfterValidator(_known_method), Field(json_schema_extra={"enum": list(METHODS)})]


class OptimizerConfig(Section):
    """How every task trains within a round."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Positive = 1e-3
    momentum: NonNegative = 0.0
    """Of SGD."""
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
"""Of a run in which α settles by itself: of fewer, none can be given away to learn it."""


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
    """Task weights w_i, all 1 at the start, updated from α after each round."""

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


class CheckpointsConfig(Section):
    """Saving the run as it goes on, into output_dir/checkpoints, for --resume."""

    minutes: NonNegative | None = 5.0
    """Between two checkpoints. 0: as often as writing allows; null: only when the run is told to stop (SIGTERM or
    SIGINT)."""
    keep: Count = 2
    """The newest so many are kept, and that of the last round's end, from where more rounds can go on. Each holds
    the best model so far, too."""
    background: bool = True
    """Copy the state within CPU memory and write it while training goes on, where there is room for the copy."""


class LogConfig(Section):
    """Where a run's rounds are logged besides metrics.jsonl."""

    tensorboard: Literal["auto"] | bool = "auto"
    """In output_dir/tensorboard; auto: where the package tensorboard is installed."""
    wandb: str | None = None
    """A project of Weights & Biases, told the settings and every round; null sends nothing."""


ModelConfig = Annotated[ConvNetConfig | EncoderConfig | CausalLMConfig, Field(discriminator="name")]


TasksConfig = Annotated[DigitsConfig | IdxConfig | TextTasksConfig, Field(discriminator="source")]


class TrainConfig(Section):
    """How to train: what `fit` takes, whose caller brings the model and the tasks."""

    method: MethodName = "avil"
    """How the target is trained: by αVIL, or by what it is compared with."""
    options: dict[str, Any] = Field(default={})
    """Settings of a method's own, where it has some: docs/methods.md."""
    preset: Literal["default", "paper"] = "default"
    """Defaults: what has done best here, or the algorithm as it was published."""
    target: str = "upper_left"
    """Name of the task whose dev loss α is learned on."""
    rounds: Count = 12
    """Of the run. As long as α is learned, every task trains once in each, and the deltas are merged."""
    sample_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """ρ, the fraction of a task's data that a round trains on."""
    steps_per_task: Literal["equal", "proportional"] | Count = "equal"
    """Optimizer steps of a task in a round: the same for all (ρ times the mean pass, cycling through small
    datasets), in proportion to its data, or a number."""
    batch_size: Count = 32
    """Examples of an optimizer step, over all ranks and accumulation steps."""
    gradient_accumulation_steps: Count = 1
    """Take a rank's share of a batch in so many passes, to save memory; the step is the same."""
    eval_batch_size: Count = 512
    """Examples of a batch in evaluations and in the α phase."""
    workers: Whole = 0
    """Processes that load data."""
    max_rejected_steps: Count = 5
    """A step whose loss or gradient is not finite is rejected: it changes nothing, and is counted. After so many
    of a task in a row the run stops."""
    seed: Whole = 0
    """Of everything that is drawn; the same seed gives the same bits."""
    keep: Literal["best", "last"] = "best"
    """Which round's model is the result: the best on dev, or the last."""
    test_every_round: bool = True
    """Measure the target's test set after every round, and not only at the end; nothing is learned from it."""
    task_vectors: bool = False
    """Keep the deltas of the kept round in the run's folder, as many bytes as the model in fp32 for every task and
    once more; for `avil-fast export --task-vectors`."""
    output_dir: DiskPath | None = Path("runs/digits")
    """The run's folder; null writes nothing (Python only)."""
    overwrite: bool = False
    """Replace a run in output_dir that is finished, or that was stopped and could go on."""
    optimizer: OptimizerConfig = OptimizerConfig()
    alpha: AlphaConfig = AlphaConfig()
    weights: WeightsConfig = WeightsConfig()
    deltas: DeltasConfig = DeltasConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    log: LogConfig = LogConfig()
    rank_timeout: Positive = 600.0
    """Seconds that a rank waits for the others. Where one does not answer for so long, the run stops on all."""
    deepspeed: DiskPath | None = None
    """DeepSpeed's JSON file, as after --deepspeed_config: trains on the launcher's ranks with its ZeRO stage."""

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
                "task_vectors: true keeps those of rounds in which tasks train apart, but where the target has a "
                "test set they train together once α is settled; set alpha.settled: merge"
            )
        if self.weights.apply == "loss" and self.weights.rule != "off" and self.optimizer.name != "sgd":
            found.append(
                f"weights.apply: loss does nothing under {self.optimizer.name}, which ignores the scale of the "
                f"loss; use weights.apply: lr"
            )
        return found


class Config(TrainConfig):
    """A run from a file: how to train, on what, and beside what."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    baselines: Literal["auto"] | tuple[MethodName, ...] = "auto"
    """Methods to run beside this one, at the same budget, for comparison. auto: the target alone on the same data,
    which is `single_all` where its dev set becomes training data, else `single`."""
    model: ModelConfig = ConvNetConfig()
    tasks: TasksConfig = DigitsConfig()

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, settings: Any) -> Any:
        """Texts where tasks are named, else digits; and the model that suits the tasks where none is named."""
        if not isinstance(settings, dict):
            return settings
        tasks, model = settings.get("tasks", {}), settings.get("model", {})
        if isinstance(tasks, dict) and "source" not in tasks:
            named = any(isinstance(value, dict) for value in tasks.values())
            tasks = {"source": "texts" if named else "digits"} | tasks
        if isinstance(model, dict):
            model = {"name": _suitable(_kinds(tasks))} | model
        return settings | {"tasks": tasks, "model": model}

    @model_validator(mode="after")
    def _matching_kinds(self) -> Config:
        kinds = _kinds(self.tasks)
        suitable = _suitable(kinds)
        if len({_suitable({kind}) for kind in kinds}) > 1:
            raise ValueError(
                f"tasks are of the kinds {', '.join(sorted(kinds))}, which need different models; take one kind"
            )
        if self.model.name != suitable:
            what = next(iter(sorted(kinds)), "images")
            raise ValueError(
                f"model.name is {self.model.name!r}, but tasks of the kind {what} need {suitable!r}; set "
                f"model.name: {suitable}, or other tasks"
            )
        return self

    @model_validator(mode="after")
    def _vectors_of_sums(self) -> Config:
        lora = getattr(self.model, "lora", None)
        if self.task_vectors and lora and lora.space == "AB":
            raise ValueError(
                "task_vectors is true, but with model.lora.space: AB the merged weights are no sum of what the "
                "tasks changed; set model.lora.space: B, or task_vectors: false"
            )
        return self

    def warnings(self) -> list[str]:
        found = super().warnings()
        lora = getattr(self.model, "lora", None)
        bounds = self.alpha.bounds
        if self.method == "avil" and lora and lora.space == "AB" and (bounds is None or bounds[0] < 0):
            found.append(
                "alpha.bounds allow α below 0, but with model.lora.space: AB that takes no task back out, as "
                "-B times -A is B A again; use model.lora.space: B, or a lower bound of 0"
            )
        return found


def _kinds(tasks: Any) -> set[str]:
    """Kinds of the tasks on texts, checked or not; none for images."""
    if isinstance(tasks, TextTasksConfig):
        return {task.kind for task in tasks.by_name.values()}
    if not isinstance(tasks, dict) or tasks.get("source") != "texts":
        return set()
    return {str(task.get("kind", "classification")) for task in tasks.values() if isinstance(task, dict)}


def _suitable(kinds: set[str]) -> str:
    """The model for these tasks."""
    if not kinds:
        return "convnet"
    return "causal_lm" if "language_modelling" in kinds else "encoder"


AnyConfig = TypeVar("AnyConfig", bound=TrainConfig)


def load(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a run's YAML file (None: the embedded default) and apply `key.sub=value` overrides.

    Raises:
        AvilError: the file is missing or is not YAML, or a setting is unknown or has a wrong value.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        settings = _read(path)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            hint = "a file goes before all settings" if os.path.isfile(override) else "write it as key=value"
            raise AvilError(f"{override!r} is not a setting; {hint}, e.g. run.yaml rounds=10")
        names = known_names(Config)
        if not is_known(name.strip(), names):
            raise AvilError(unknown_setting(name.strip(), names, "the settings"))
        try:
            value = parse(text)
        except NoYaml as error:
            raise AvilError(
                f"the value of {name.strip()} in {override!r} is not valid YAML: {error}; put it in quotes"
            ) from error
        _require_task(settings, name.strip(), str(path))
        assign(settings, name.strip(), value)
    return from_settings(settings, where=str(path) if path else "the settings")


def _require_task(settings: Mapping[str, Any], name: str, where: str) -> None:
    """Refuse an override of a task that is not there, unless it brings data, which makes a task of it."""
    section, _, rest = name.partition(".")
    task, _, setting = rest.partition(".")
    tasks = settings.get("tasks")
    named = (
        {key for key, value in tasks.items() if isinstance(value, Mapping)} if isinstance(tasks, Mapping) else {}
    )
    if section != "tasks" or not named or task in named or not setting or setting.startswith(("files", "dataset")):
        return
    near = difflib.get_close_matches(task, named, n=1)
    hint = f"did you mean tasks.{near[0]}.{setting}?" if near else f"give it its data with {section}.{task}.files"
    raise AvilError(f"{name}: {where} has no task {task!r}, but {', '.join(sorted(named))}; {hint}")


def from_settings(settings: Mapping[str, Any], where: str = "the settings") -> Config:
    """Check nested settings, with the preset that they name underneath.

    Raises:
        AvilError: a setting is unknown or has a wrong value; the nearest known name is given.
    """
    return _checked(Config, settings, where)


def from_dotted(settings: Mapping[str, Any]) -> TrainConfig:
    """Check settings given with dotted names, e.g. {"alpha.lr": 0.1}; sections may also be mappings."""
    nested: dict[str, Any] = {}
    names, of_a_file = known_names(TrainConfig), known_names(Config)
    for name, value in settings.items():
        if is_known(name, of_a_file) and not is_known(name, names):
            raise AvilError(
                f"fit(): {name} is a setting of a config file; fit() takes model and tasks as they are"
            )
        if not is_known(name, names):
            raise AvilError(unknown_setting(name, names, "fit()"))
        one: dict[str, Any] = {}
        assign(one, name, value)
        nested = merge(nested, one)
    return _checked(TrainConfig, nested, where="fit()")


def dump(config: TrainConfig) -> str:
    """The resolved configuration as YAML, every setting spelled out."""
    return written(config.model_dump(mode="json"))


def _checked(kind: type[AnyConfig], settings: Mapping[str, Any], where: str) -> AnyConfig:
    preset = settings.get("preset", "default")
    below = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
    try:
        return kind.model_validate(merge(below, settings))
    except ValidationError as error:
        raise AvilError(explain(error, where, known_names(kind))) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AvilError(f"the config {str(path)!r} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise AvilError(f"the config {str(path)!r} is not UTF-8 text; save it as such") from error
    except NoYaml as error:
        raise AvilError(f"the config {str(path)!r} is not valid YAML: {error}; correct it there") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise AvilError(f"the config {str(path)!r} holds a {type(settings).__name__}, but must hold settings")
    return settings
