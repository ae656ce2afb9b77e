"""A run from a YAML file: how to train, and which model on which tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from avil_fast.config.model import CausalLMConfig, ConvNetConfig, EncoderConfig
from avil_fast.config.pairs import DigitsConfig, IdxConfig
from avil_fast.config.text_tasks import TextTasksConfig
from avil_fast.config.train import MethodName, TrainConfig

ModelConfig = Annotated[ConvNetConfig | EncoderConfig | CausalLMConfig, Field(discriminator="name")]


TasksConfig = Annotated[DigitsConfig | IdxConfig | TextTasksConfig, Field(discriminator="source")]


class Config(TrainConfig):
    """A run from a file: how to train, which model on which tasks, on which device, and beside which baselines."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the run trains on. auto: a GPU if there is one; with a DeepSpeed file, the CPU where the
    environment has DS_ACCELERATOR=cpu."""
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
