"""A model's tensors as safetensors, a file at a time, so that a sharded model is never whole in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from avil_fast.errors import AvilError, reason

SHARD_BYTES = 4 << 30
"""Bytes of a file at most, unless a single tensor is larger: what other tools write, and fits their caches."""

METADATA = {"format": "pt"}
"""Without it transformers does not read a file."""


def write_weights(folder: Path, tensors: Iterable[tuple[str, Tensor]], limit: int = SHARD_BYTES) -> None:
    """Write `model.safetensors`, or numbered files of at most `limit` bytes and their index.

    Args:
        folder: made if it is not there.
        tensors: by name, each used only until the next one is asked for.
    """
    folder.mkdir(exist_ok=True)
    written: list[tuple[Path, list[str]]] = []
    size = 0
    for shard in _shards(tensors, limit):
        partial = folder / f"model-{len(written) + 1:05}.partial"
        safetensors.torch.save_file(shard, str(partial), METADATA)
        written.append((partial, list(shard)))
        size += sum(_bytes(tensor) for tensor in shard.values())
    if len(written) == 1:
        written[0][0].replace(folder / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, (partial, names) in enumerate(written, 1):
        final = f"model-{number:05}-of-{len(written):05}.safetensors"
        partial.replace(folder / final)
        weight_map |= dict.fromkeys(names, final)
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(tensors: Iterable[tuple[str, Tensor]], limit: int) -> Iterator[dict[str, Tensor]]:
    """Copies of the tensors in memory of the CPU, as many at a time as a file holds."""
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if shard and size + _bytes(tensor) > limit:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor.detach().to("cpu", copy=True).contiguous()
        size += _bytes(tensor)
    yield shard


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def read_weights(folder: Path, model: nn.Module) -> None:
    """Give a model the tensors that `write_weights` wrote.

    Raises:
        AvilError: a file is damaged, or its tensors are not those of the model.
    """
    try:
        tensors: dict[str, Tensor] = {}
        for path in sorted(folder.glob("*.safetensors")):
            tensors |= safetensors.torch.load_file(str(path))
        model.load_state_dict(tensors, strict=False, assign=False)
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        raise AvilError(
            f"{str(folder)!r} cannot be read: {reason(error)}; take it from a copy, or train it again"
        ) from error
    names = {name for name, _ in model.named_parameters()}  # tied ones once, as they were written
    if missing := sorted(names - tensors.keys()):
        raise AvilError(f"{str(folder)!r} lacks {missing[0]!r}; it is the model of another run, or damaged")
