"""A model of transformers, from its config.json alone.

The whole of a large model would take minutes to describe, so it is counted with few layers: what a layer adds is
the same for each, or else the whole is counted after all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from avil_fast.config.model import CausalLMConfig, EncoderConfig, TextModelConfig
from avil_fast.config.text_tasks import TextTaskConfig
from avil_fast.tasks.shapes.base import Kept, Pass, Shape, Sizes, in_gb
from avil_fast.tasks.shapes.counting import count, traced
from avil_fast.tasks.text import lora
from avil_fast.tasks.text.loading import DTYPES, settings_of
from avil_fast.tasks.text.losses import next_token_loss
from avil_fast.tasks.text.packages import quiet, require
from avil_fast.tasks.text.training_options import prepare_

Loss = Callable[[nn.Module], Tensor]


class TextShape(Shape):
    """An encoder or a causal language model, with LoRA or without.

    Raises:
        AvilError: there is no such model, or a package is missing.
    """

    def __init__(self, tasks: Mapping[str, TextTaskConfig], target: str, model: TextModelConfig) -> None:
        require("transformers")
        self._given = tasks, target
        self._kept: dict[tuple[int, Pass], Kept] = {}
        self._changed: dict[tuple[tuple[str, Any], ...], TextShape] = {}
        self._config = model.model_copy(update={"compile": False})
        self._settings = settings_of(model)
        self.tokens = model.max_length
        self.notes = [f"every text is taken to have model.max_length = {model.max_length} tokens"]
        rates = [
            value for name, value in vars(self._settings).items() if "drop" in name and "layerdrop" not in name
        ]
        self._plain = not model.gradient_checkpointing and model.lora is None and not any(rates)
        """Training and eval mode compute the same."""
        self.layers = getattr(self._settings.get_text_config(), "num_hidden_layers", None)
        heads: list[int] = []
        if isinstance(model, EncoderConfig):
            heads = self._heads(tasks, target)
        trained, frozen, buffers, largest = self._count()
        target_head = heads[0] if heads else 0
        element = DTYPES[model.dtype].itemsize
        self.sizes = Sizes(trained - target_head, heads, frozen, buffers, element, largest)

    def changed(self, **settings: Any) -> TextShape | None:
        if all(getattr(self._config, name) == value for name, value in settings.items()):
            return None
        key = tuple(sorted(settings.items()))
        if key not in self._changed:
            self._changed[key] = TextShape(*self._given, self._config.model_copy(update=settings))
        return self._changed[key]

    def kept(self, examples: int, kind: Pass) -> Kept:
        if kind == "alpha" and self._plain:
            kind = "training"
        if (examples, kind) not in self._kept:
            self._kept[examples, kind] = self._count_kept(examples, kind)
        return self._kept[examples, kind]

    def _count_kept(self, examples: int, kind: Pass) -> Kept:
        what = f"{examples} x {self.tokens} tokens"
        try:
            if self.layers is None or self.layers <= 3:
                return Kept(self._traced(self.layers, examples, kind), f"counted for {what}")
            if kind == "evaluation":  # one layer's at a time
                return Kept(self._traced(3, examples, kind), f"of one layer, counted for {what}")
            two, three = (self._traced(layers, examples, kind) for layers in (2, 3))
        except Exception:  # a model whose steps depend on values, such as a mixture of experts
            return self._estimated(examples, kind, what)
        first, layer = 3 * two - 2 * three, three - two
        formula = f"{in_gb(first)} and {in_gb(layer)} for each of {self.layers} layers, counted for {what}"
        return Kept(first + self.layers * layer, formula)

    def _estimated(self, examples: int, kind: Pass, what: str) -> Kept:
        """34 bytes per token and hidden unit of a layer in 16 bits (Korthikanti et al., arXiv 2205.05198), with
        fused attention; and the logits."""
        settings = self._settings.get_text_config()
        element = DTYPES[self._config.dtype].itemsize
        layer = 17 * element * settings.hidden_size * (1 if kind == "evaluation" else self.layers or 1)
        if kind == "training" and self._config.gradient_checkpointing:
            layer = element * settings.hidden_size * (self.layers or 1) + 17 * element * settings.hidden_size
        logits = (element + 8) * settings.vocab_size if isinstance(self._config, CausalLMConfig) else 0
        nbytes = examples * self.tokens * (layer + logits)
        return Kept(nbytes, f"about 34 bytes per token, hidden unit and layer in 16 bits, for {what}")

    def _traced(self, layers: int | None, examples: int, kind: Pass) -> int:
        def make() -> tuple[nn.Module, Loss]:
            model = self._model(layers)
            tokens = torch.ones(examples, self.tokens, dtype=torch.int64)
            batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            if isinstance(self._config, CausalLMConfig):
                return model, lambda model: next_token_loss(model, batch | {"labels": tokens})
            labels = torch.zeros(examples, dtype=torch.int64)
            return model, lambda model: functional.cross_entropy(model(**batch).logits.float(), labels)

        return traced(make, kind)

    def _count(self) -> tuple[int, int, int, int]:
        """`count` of the whole model, the target's head included."""

        def of(layers: int | None) -> tuple[int, int, int, int]:
            with torch.device("meta"):
                return count(self._model(layers))

        if self.layers is None or self.layers <= 3:
            return of(self.layers)
        one, two, three = of(1), of(2), of(3)
        if any(b - a != c - b for a, b, c in zip(one[:3], two[:3], three[:3], strict=True)):
            return of(self.layers)  # layers differ
        trained, frozen, buffers = (a + (self.layers - 1) * (b - a) for a, b in zip(one[:3], two[:3], strict=True))
        return trained, frozen, buffers, two[3]

    def _heads(self, tasks: Mapping[str, TextTaskConfig], target: str) -> list[int]:
        """Elements of the heads; the classes of a task that names none are taken to be two."""

        def head(outputs: int) -> int:
            self._settings.num_labels = outputs
            with torch.device("meta"):
                model = self._whole(1 if self.layers else None)
            below = f"{model.base_model_prefix}."
            return sum(p.numel() for name, p in model.named_parameters() if not name.startswith(below))

        def outputs(task: TextTaskConfig) -> int:
            return 1 if task.kind == "regression" else len(task.labels or ()) or 2

        if any(task.kind == "classification" and task.labels is None for task in tasks.values()):
            self.notes.append("tasks that do not name their labels are taken to have 2 classes")
        found = {name: outputs(task) for name, task in tasks.items()}
        heads = {number: head(number) for number in set(found.values())}
        self._settings.num_labels = found[target]
        return [heads[found[target]], *(heads[number] for name, number in found.items() if name != target)]

    def _model(self, layers: int | None) -> Any:
        """What is trained: adapters, if they are asked for, and the target's head."""
        model = self._whole(layers)
        if self._config.lora is not None:
            body = model if isinstance(self._config, CausalLMConfig) else model.base_model
            lora.adapt_(body, self._config.lora, 0)
        prepare_(model, self._config)
        return model

    def _whole(self, layers: int | None) -> Any:
        import transformers

        settings = self._settings if layers is None else _with_layers(self._settings, layers)
        causal = isinstance(self._config, CausalLMConfig)
        kind = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSequenceClassification
        with quiet():
            return kind.from_config(settings, dtype=DTYPES[self._config.dtype])


def _with_layers(settings: Any, layers: int) -> Any:
    """The settings of the same model with so many layers."""
    fewer = copy.deepcopy(settings)
    text = fewer.get_text_config()
    before = text.num_hidden_layers
    for name, value in vars(text).items():
        if isinstance(value, list) and len(value) == before:  # the kind of each layer
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return fewer
