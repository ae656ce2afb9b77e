"""Weights as files: all tensors, in files of a limited size, one at a time in memory."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from avil_fast.report.weights import write_weights

TENSORS = {f"layer.{i}": torch.full((10,), float(i)) for i in range(5)}


def load(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def same(ours: dict[str, Tensor]) -> bool:
    return ours.keys() == TENSORS.keys() and all(torch.equal(ours[name], TENSORS[name]) for name in TENSORS)


def test_what_fits_is_one_file(tmp_path: Path) -> None:
    write_weights(tmp_path / "model", TENSORS.items())
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.safetensors"]
    assert same(load(tmp_path / "model"))


def test_more_is_numbered_files_and_an_index(tmp_path: Path) -> None:
    write_weights(tmp_path, TENSORS.items(), limit=85)  # two tensors of 40 bytes
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"model-0000{k}-of-00003.safetensors" for k in (1, 2, 3)] + ["model.safetensors.index.json"]
    assert same(load(tmp_path))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == 5 * 40
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / file)


def test_a_tensor_above_the_limit_has_a_file_of_its_own(tmp_path: Path) -> None:
    write_weights(tmp_path, TENSORS.items(), limit=1)
    assert len(list(tmp_path.glob("*.safetensors"))) == 5
    assert same(load(tmp_path))


def test_a_tensor_is_used_only_until_the_next_one_is_asked_for(tmp_path: Path) -> None:
    def reused() -> Iterator[tuple[str, Tensor]]:
        buffer = torch.empty(10)
        for name, tensor in TENSORS.items():
            yield name, buffer.copy_(tensor)

    write_weights(tmp_path, reused(), limit=85)
    assert same(load(tmp_path))


def test_parts_of_larger_tensors_are_written_alone(tmp_path: Path) -> None:
    flat = torch.arange(1000.0)
    write_weights(tmp_path, [("a", flat[:10]), ("b", flat[10:20].view(2, 5).t())])
    assert (tmp_path / "model.safetensors").stat().st_size < 1000
    assert torch.equal(load(tmp_path)["b"], flat[10:20].view(2, 5).t())
