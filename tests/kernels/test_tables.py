"""What a launch over many partitions reads on the device."""

import pytest
import torch

from avil_fast.kernels import tables
from avil_fast.kernels.tables import CHUNK

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 0, 3 * CHUNK + 7)


@pytest.fixture
def codes() -> list[torch.Tensor]:
    return [torch.zeros(2, size) for size in SIZES]


def test_chunks_cover_every_element_once(codes: list[torch.Tensor]) -> None:
    made = tables.tables(codes, [])
    seen = [torch.zeros(size, dtype=torch.int64) for size in SIZES]
    for partition, start, length in made.chunks.tolist():
        assert 1 <= length <= CHUNK
        assert start % CHUNK == 0
        seen[partition][start : start + length] += 1
    assert all(torch.all(count == 1) for count in seen)
    assert made.count == 1 + 1 + 1 + 2 + 4


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((CHUNK + 1, 0, CHUNK), [[0, 0, CHUNK], [0, CHUNK, 1], [2, 0, CHUNK]]),
        ((0, 5), [[1, 0, 5]]),
        ((0, 0), []),
        ((), []),
    ],
)
def test_chunks_are_in_the_order_of_partitions(sizes: tuple[int, ...], expected: list[list[int]]) -> None:
    table = tables.chunk_table(sizes)
    assert table.dtype == torch.int64
    assert table.shape == (len(expected), 3)
    assert table.tolist() == expected


def test_a_partition_s_row_holds_addresses_and_strides(codes: list[torch.Tensor]) -> None:
    scales, flat = [torch.zeros(2, 3) for _ in codes], [torch.zeros(size) for size in SIZES]
    made = tables.tables(codes, scales, flat, [])
    for row, code, scale, one in zip(made.partitions.tolist(), codes, scales, flat, strict=True):
        expected = [code.data_ptr(), code.stride(0), scale.data_ptr(), scale.stride(0), one.data_ptr(), 0, 0, 0]
        assert row == expected


def test_the_same_tensors_are_looked_up(codes: list[torch.Tensor]) -> None:
    first = tables.tables(codes, [])
    assert tables.tables(codes, []) is first
    assert tables.tables([code.clone() for code in codes], []) is not first


@pytest.mark.parametrize(("shift", "aligned"), [(0, True), (4, True), (1, False)])
def test_alignment_is_that_of_every_row(shift: int, aligned: bool) -> None:
    codes = [torch.zeros(3, 64), torch.zeros(3, 64 + shift)]
    assert tables.tables(codes, []).aligned is aligned
    assert tables.tables(codes[:1], [], [torch.zeros(64 + shift)[shift:]]).aligned is aligned


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether a CUDA graph is being captured, for tensors on the CPU: a list to set."""
    state = [False]
    monkeypatch.setattr(tables, "_capturing", lambda device: state[0])
    monkeypatch.setattr(tables, "cache", tables.TableCache(limit=1))
    return state


def test_tables_that_a_graph_reads_are_never_dropped(codes: list[torch.Tensor], capturing: list[bool]) -> None:
    first = tables.tables(codes, [])
    capturing[0] = True
    assert tables.tables(codes, []) is first
    capturing[0] = False
    for i in range(3):
        tables.tables([torch.zeros(1, 8 + i)], [])
    assert tables.tables(codes, []) is first
    assert len(tables.cache) == 1  # besides the captured one
    assert tables.cache.misses == 4


def test_tables_are_not_made_during_a_capture(codes: list[torch.Tensor], capturing: list[bool]) -> None:
    capturing[0] = True
    with pytest.raises(RuntimeError, match="call it once before the capture"):
        tables.tables(codes, [])
    assert len(tables.cache) == 0
