"""Sentiment in four domains with the last layers of MiniLM-L6 trained, and a head for each domain.

What the layers before them make of a text does not change, so it is made once, into a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import avil_fast as avil
from avil_fast.randomness import derive_seed
from avil_fast.run import training
from benchmarks.evidence.domains import DOMAINS, Domains, encoder

TOKENS = 32
"""Of a text, at most."""
LAYERS = "layers/"


@dataclass(frozen=True)
class TunedDomains(Domains):
    """A comparison on hidden states; `embeddings` is made by `hidden_states`."""

    def train(self, overrides: Sequence[str]) -> None:
        config = self.config(overrides)
        model, tasks = build(load_file(self.embeddings), self._settings()["data"], config.target, config.seed)
        training.train(model, tasks, config, resume="auto")


class LastLayers(nn.Module):
    """The encoder's last layers, the mean over a text's tokens, and a linear head for each task."""

    def __init__(self, layers: nn.ModuleList, width: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers
        self.heads = nn.ModuleDict({task: nn.Linear(width, 2) for task in tasks})

    def forward(self, states: Tensor, mask: Tensor, task: str) -> Tensor:
        """Logits [batch, 2] from hidden states [batch, tokens, width]; `mask` [batch, tokens], true at tokens."""
        found = states.float()
        for layer in self.layers:
            found = layer(found, src_key_padding_mask=~mask)
        kept = mask[..., None]
        return self.heads[task]((found * kept).sum(1) / kept.sum(1))


def build(made: dict[str, Tensor], data: dict, target: str, seed: int) -> tuple[nn.Module, list[avil.Task]]:
    """The model and the tasks, the target first."""
    names = [target, *(name for name in DOMAINS if name != target)]

    def drawn(name: str, split: str, count: int | None) -> TensorDataset:
        tensors = [made[f"{name}/{split}/{what}"] for what in ("states", "mask", "labels")]
        generator = torch.Generator().manual_seed(derive_seed(seed, name, split))
        rows = torch.randperm(len(tensors[0]), generator=generator)[:count]
        return TensorDataset(*(tensor[rows] for tensor in tensors))

    def task(name: str, train: TensorDataset, **others: TensorDataset) -> avil.Task:
        def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
            return functional.cross_entropy(model(batch[0], batch[1], name), batch[2])

        def accuracy(model: nn.Module, batch: list[Tensor]) -> Tensor:
            return model(batch[0], batch[1], name).argmax(1) == batch[2]

        return avil.Task(name, train, loss, metric=accuracy, head=f"heads.{name}", **others)

    splits = {"dev": drawn(target, "dev", data["dev"]), "test": drawn(target, "test", data.get("test"))}
    tasks = [task(target, drawn(target, "train", data["train"]), **splits)]
    tasks += [task(name, drawn(name, "train", data["auxiliary_train"])) for name in names[1:]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "model"))
        width = tasks[0].train[0][0].shape[-1]
        layers = nn.ModuleList(transformer_layer(width, state) for state in _by_layer(made))
        model = LastLayers(layers, width, [task.name for task in tasks])
    return model, tasks


@torch.no_grad()
def hidden_states(texts: Path, to: Path, layers: int) -> None:
    """What all but the last layers make of every text that `avil-fast prepare sentiment` made, and these layers.

    DOMAIN/SPLIT/states [n, 32, 384] fp16, mask [n, 32] and labels [n]; layers/N/NAME as `as_torch_has_it`.
    """
    tokenizer, model = encoder()
    options = {"truncation": True, "max_length": TOKENS, "padding": "max_length", "return_tensors": "pt"}
    first = len(model.encoder.layer) - layers
    made = {
        f"{LAYERS}{number}/{name}": tensor.clone()
        for number, layer in enumerate(model.encoder.layer[first:])
        for name, tensor in as_torch_has_it(layer).items()
    }
    model.encoder.layer = model.encoder.layer[:first]
    for domain in DOMAINS:
        for split in ("train", "dev", "test"):
            rows = pd.read_csv(texts / domain / f"{split}.csv")
            states, masks = [], []
            for start in range(0, len(rows), 64):
                some = list(rows["text"][start : start + 64])
                batch = tokenizer(some, **options)
                states.append(model(**batch).last_hidden_state.half())
                masks.append(batch["attention_mask"].bool())
            made[f"{domain}/{split}/states"], made[f"{domain}/{split}/mask"] = torch.cat(states), torch.cat(masks)
            made[f"{domain}/{split}/labels"] = torch.tensor((rows["label"] == "positive").to_numpy()).long()
    to.parent.mkdir(parents=True, exist_ok=True)
    save_file(made, to)


def as_torch_has_it(layer: Any) -> dict[str, Tensor]:
    """The parameters of a BertLayer under the names of torch's TransformerEncoderLayer, which does the same."""
    attention = layer.attention.self
    inputs = (attention.query, attention.key, attention.value)
    modules = {
        "self_attn.out_proj": layer.attention.output.dense,
        "norm1": layer.attention.output.LayerNorm,
        "linear1": layer.intermediate.dense,
        "linear2": layer.output.dense,
        "norm2": layer.output.LayerNorm,
    }
    return {
        "self_attn.in_proj_weight": torch.cat([module.weight for module in inputs]),
        "self_attn.in_proj_bias": torch.cat([module.bias for module in inputs]),
        **{f"{name}.{kind}": getattr(m, kind) for name, m in modules.items() for kind in ("weight", "bias")},
    }


def _by_layer(made: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in made.items():
        if name.startswith(LAYERS):
            number, _, rest = name.removeprefix(LAYERS).partition("/")
            found.setdefault(number, {})[rest] = tensor
    return [found[number] for number in sorted(found)]


def transformer_layer(width: int, state: dict[str, Tensor]) -> nn.TransformerEncoderLayer:
    """A layer of MiniLM's kind with these parameters."""
    inner = len(state["linear1.bias"])
    layer = nn.TransformerEncoderLayer(width, 12, inner, 0.1, "gelu", layer_norm_eps=1e-12, batch_first=True)
    layer.load_state_dict(state)
    return layer
