"""A file of a checkpoint: safetensors can read it, damage is found, and no more is read than is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from avil_fast.checkpoint import file_format
from avil_fast.checkpoint.file_format import Damaged, Record
from avil_fast.checkpoint.reading import Reader
from avil_fast.checkpoint.writing import Entry, write

BLOCK = 256


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_format, "CHECKSUM_BLOCK", BLOCK)


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {
        str(dtype): (100 * torch.randn(3, 17, generator=generator)).to(dtype)
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int8, torch.uint8)
    }
    return made | {
        "fp8": torch.randn(70, generator=generator).to(torch.float8_e4m3fn),
        "complex": torch.randn(6, dtype=torch.complex64, generator=generator),
        "bool": torch.randn(5, generator=generator) > 0,
        "empty": torch.empty(0),
        "number": torch.tensor(3.5),
        "transposed": torch.randn(5, 3, generator=generator).T,
        "large": torch.randn(1000, generator=generator),
    }


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[Path, Record]]:
    path = tmp_path / "file.safetensors"
    return path, write(path, [Entry(name, [tensor]) for name, tensor in tensors().items()])


def same(one: Tensor, other: Tensor) -> bool:
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and torch.equal(one.to(torch.complex128), other.to(torch.complex128))
    )


def test_safetensors_reads_what_was_written(file: tuple[Path, Record]) -> None:
    theirs, ours = safetensors.torch.load_file(file[0]), Reader(*file)
    for name, tensor in tensors().items():
        assert same(theirs[name], tensor), name
        assert same(ours.tensor(name), tensor), name
    assert theirs.keys() == set(ours.names())


def test_pieces_lie_end_to_end(tmp_path: Path) -> None:
    whole = torch.randn(700)
    record = write(tmp_path / "file", [Entry("whole", list(whole.split(123)))])
    assert same(Reader(tmp_path / "file", record).tensor("whole"), whole)


def test_a_part_is_read_with_the_blocks_it_lies_in_and_no_others(file: tuple[Path, Record]) -> None:
    reader = Reader(*file)
    header = len(reader.seen)
    expected = tensors()["large"]
    assert same(reader.elements("large", 400, 500), expected[400:500])
    assert len(reader.seen) - header <= 400 // BLOCK + 2


@pytest.mark.parametrize("cut", [0, 1, 7, BLOCK, 3000])
def test_a_file_cut_short_is_refused(cut: int, file: tuple[Path, Record]) -> None:
    path, record = file
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(Damaged, match=f"file.safetensors' has {cut} bytes, but {record.nbytes} were written"):
        Reader(path, record)


def test_a_file_that_is_gone_is_named(file: tuple[Path, Record]) -> None:
    file[0].unlink()
    with pytest.raises(Damaged, match=r"file.safetensors' cannot be read: No such file"):
        Reader(*file)


def test_every_flipped_bit_is_found(file: tuple[Path, Record]) -> None:
    path, record = file
    whole = path.read_bytes()
    for byte in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[byte] ^= 1 << (byte % 8)
        path.write_bytes(damaged)
        with pytest.raises(Damaged, match=r"file.safetensors' is damaged: bytes \d+ to \d+"):
            Reader(path, record).check_all()


def test_a_file_is_never_written_over(file: tuple[Path, Record]) -> None:
    with pytest.raises(FileExistsError):
        write(file[0], [])
