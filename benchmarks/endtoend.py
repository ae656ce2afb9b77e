"""αVIL on a large transformer beside plain multitask training: `python -m benchmarks.endtoend --device cuda`.

A language model of random parameters, in bf16 with fp32 masters, on synthetic tokens: rounds of αVIL over
several tasks, then plain training on as many batches of the same tasks. Prints seconds by part, the share of
a round that the operations on deltas take, and peak memory beside what was to be expected: that of plain
training, the base (4 bytes per parameter) and the bank. The defaults make about a billion parameters.
"""

from __future__ import annotations

import argparse
import gc
import resource
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from avil_fast.deltas.codec import CODECS
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.optimizer import TaskOptimizer
from avil_fast.engine.parameters import flatten
from avil_fast.engine.results import over_groups
from avil_fast.engine.settings import EngineSettings
from avil_fast.tasks.task import Task
from benchmarks import command
from benchmarks.kernels import about

# The settings' names and values, without pydantic: this runs on torch and triton alone.
OPTIMIZER = SimpleNamespace(
    name="adamw", lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, clip_norm=None, moments="reset"
)


class LanguageModel(nn.Module):
    """Pre-norm transformer with causal attention; the output is tied to the embedding."""

    def __init__(self, vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(
            width, width // 64, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, tokens.device, self.embedding.weight.dtype)
        hidden = self.layers(self.embedding(tokens), mask=mask, is_causal=True)
        return functional.linear(hidden, self.embedding.weight)


def next_token(model: nn.Module, tokens: Tensor) -> Tensor:
    logits = model(tokens[:, :-1]).float()
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def batches(task: int, options: argparse.Namespace, seed: int) -> Iterator[Tensor]:
    """Token batches of a task: each task's tokens come from a part of the vocabulary of its own."""
    generator = torch.Generator().manual_seed(1000 * seed + task)
    part = options.vocabulary // options.tasks
    for _ in range(options.steps):
        low = task * part
        yield torch.randint(low, low + part, (options.batch, options.sequence), generator=generator)


def fresh(options: argparse.Namespace, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    with torch.device(device):
        return LanguageModel(options.vocabulary, options.width, options.layers).bfloat16()


def peak(device: torch.device) -> int:
    """Bytes at most: allocated on a GPU since the last reset, resident for good on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def plain(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Multitask training, a step on each task in turn, on as many batches as αVIL's tasks train on."""
    forget(device)
    model = fresh(options, device)
    partitions = flatten(model, []).all
    optimizer = TaskOptimizer(partitions, [[]], OPTIMIZER)
    start = time.perf_counter()
    for round_ in range(options.rounds):
        for turn in zip(*(batches(task, options, round_) for task in range(options.tasks)), strict=True):
            for tokens in turn:
                for partition in partitions:
                    partition.zero_grad()
                next_token(model, tokens.to(device)).backward()
                optimizer.step(0, 0, 1.0)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return {"seconds": time.perf_counter() - start, "peak_bytes": peak(device)}


def avil(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Rounds of αVIL with fixed step sizes: the engine's work, without a method's bookkeeping."""
    forget(device)
    model = fresh(options, device)
    tasks = [Task(f"task{i}", [], next_token) for i in range(options.tasks)]
    deltas = SimpleNamespace(dtype=options.codec, device="model")
    engine = LocalEngine(model, tasks, 0, EngineSettings(OPTIMIZER, deltas))
    dev = list(batches(0, options, seed=-1))[: options.dev_batches]
    rounds = []
    for round_ in range(options.rounds):
        start = time.perf_counter()
        engine.begin_round()
        for task in range(options.tasks):
            engine.begin_task(task, seed=round_)
            for tokens in engine.fetch(batches(task, options, round_)):
                engine.train_step(tokens)
            engine.end_task()
        alpha = [1 / options.tasks] * options.tasks
        for _ in range(options.alpha_steps):
            engine.apply(alpha)
            gradient = over_groups(engine.target_gradient(dev)[0])
            alpha = [a - 0.01 * g for a, g in zip(alpha, gradient, strict=True)]
        engine.merge(alpha)
        rounds.append(engine.take_seconds() | {"total": time.perf_counter() - start})
    return {"rounds": rounds, "peak_bytes": peak(device)}


def main() -> None:
    parser = command.parser("endtoend", __doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--codec", choices=CODECS, default="int8")
    for name, default in {
        "tasks": 8, "rounds": 2, "steps": 20, "alpha-steps": 10, "dev-batches": 2, "batch": 8, "sequence": 512,
        "vocabulary": 32000, "width": 2048, "layers": 18,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    options = parser.parse_args()
    device = torch.device(options.device)
    result: dict[str, Any] = about(device)
    result["options"] = {name: value for name, value in vars(options).items() if name != "json"}
    # The CPU's peak is that of the whole process: plain training, which needs less, comes first.
    result["plain"] = plain(options, device)
    result["avil"] = avil(options, device)
    numel = sum(p.numel() for p in fresh(options, torch.device("meta")).parameters())
    extra = numel * (4 + options.tasks * CODECS[options.codec].bytes_per_element)
    expected = result["plain"]["peak_bytes"] + extra
    last = result["avil"]["rounds"][-1]
    result |= {
        "parameters": numel,
        "delta_ops_percent": 100 * last["delta_ops"] / last["total"],
        "peak_over_expected_percent": 100 * result["avil"]["peak_bytes"] / expected,
    }
    print(f"{numel / 1e9:.2f} billion parameters, {options.tasks} tasks, deltas in {options.codec}")
    print("last round, seconds: " + ", ".join(f"{part} {seconds:.2f}" for part, seconds in last.items()))
    print(f"plain training of the same batches: {result['plain']['seconds'] / options.rounds:.2f} s a round")
    print(f"operations on deltas: {result['delta_ops_percent']:.2f}% of a round")
    ours, others = (result[name]["peak_bytes"] / 1e9 for name in ("avil", "plain"))
    print(
        f"peak memory: {ours:.2f} GB, {result['peak_over_expected_percent']:.1f}% of plain training's "
        f"{others:.2f} GB and {extra / 1e9:.2f} GB of base and bank"
    )
    command.write(options.json, result)


if __name__ == "__main__":
    main()
