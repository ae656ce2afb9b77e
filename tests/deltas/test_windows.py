"""Windows hold every element once, within their bytes, each row laid out as the kernels want it."""

from __future__ import annotations

import pytest

from avil_fast.deltas.codec import CODECS, LINE, Codec
from avil_fast.deltas.windows import Window, cut
from avil_fast.ops.encoding import CHUNK, blocks

CASES = {
    "none": [],
    "empty": [0, 0],
    "one": [1],
    "mixed": [0, 7, 3 * CHUNK + 123, 1, 0, CHUNK, 300, 2 * CHUNK - 1, CHUNK + 1],
    "large": [20 * CHUNK + 5],
    "tiny": [i % 40 for i in range(4000)],
    "ones": [1] * 1100,
}
ROW_BYTES = [1, CHUNK, 500 * (LINE + 4), 150_001, 3 * CHUNK * 4, 1 << 30]

codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
sizes_of = pytest.mark.parametrize("sizes", CASES.values(), ids=CASES)


def room(window: Window, codec: Codec) -> list[tuple[int, int]]:
    """First byte of a row and the one after the last, of every piece's codes and scales, in order."""
    numels = [piece.stop - piece.start for piece in window.pieces]
    found = [(at, at + m * codec.dtype.itemsize) for at, m in zip(window.codes, numels, strict=True)]
    if codec.scaled:
        found += [(at, at + 4 * blocks(m)) for at, m in zip(window.scales, numels, strict=True)]
    return sorted(found)


@codecs
@sizes_of
@pytest.mark.parametrize("row_bytes", ROW_BYTES)
def test_every_element_once_and_in_order(sizes: list[int], codec: Codec, row_bytes: int) -> None:
    pieces = [piece for window in cut(sizes, codec, row_bytes) for piece in window.pieces]
    reached = [0] * len(sizes)
    for piece in pieces:
        assert piece.start == reached[piece.partition]
        assert piece.start % CHUNK == 0
        assert piece.stop > piece.start
        reached[piece.partition] = piece.stop
    assert reached == sizes
    assert [piece.partition for piece in pieces] == sorted(piece.partition for piece in pieces)


@codecs
@sizes_of
@pytest.mark.parametrize("row_bytes", ROW_BYTES)
def test_rows_are_aligned_and_within_their_bytes(sizes: list[int], codec: Codec, row_bytes: int) -> None:
    chunk = CHUNK * codec.dtype.itemsize + (4 * blocks(CHUNK) if codec.scaled else 0)
    for window in cut(sizes, codec, row_bytes):
        assert window.row_bytes <= max(row_bytes, chunk)
        assert window.row_bytes % LINE == 0
        assert all(at % LINE == 0 for at in window.codes)
        assert all(at % 4 == 0 for at in window.scales)
        end = 0
        for start, stop in room(window, codec):
            assert start >= end
            end = stop
        assert end <= window.row_bytes


@codecs
@sizes_of
@pytest.mark.parametrize("row_bytes", ROW_BYTES[1:])
def test_windows_are_full(sizes: list[int], codec: Codec, row_bytes: int) -> None:
    """But for the last, and for what is less than a chunk."""
    chunk = CHUNK * codec.dtype.itemsize + (4 * blocks(CHUNK) if codec.scaled else 0)
    windows = list(cut(sizes, codec, row_bytes))
    assert all(window.row_bytes > row_bytes - chunk - 2 * LINE for window in windows[:-1])
