"""Windows: a bank's elements in parts of bounded size, for a device that cannot hold them all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from avil_fast.deltas.codec import LINE, Codec
from avil_fast.ops.encoding import CHUNK, blocks


@dataclass(frozen=True)
class Piece:
    """Elements `start:stop` of a partition; `start` is a multiple of CHUNK, so that sums within chunks and
    the blocks that share a scale are those of the whole partition."""

    partition: int
    start: int
    stop: int

    @property
    def numel(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Window:
    """A row of a window holds one delta: the codes of all pieces, each from a multiple of LINE bytes on, and
    behind them their scales."""

    pieces: tuple[Piece, ...]
    codes: tuple[int, ...]
    """The byte of a row where each piece's codes begin."""
    scales: tuple[int, ...]
    """The byte where each piece's scales begin; empty for codes without."""
    row_bytes: int
    """A multiple of LINE."""


def cut(sizes: Sequence[int], codec: Codec, row_bytes: int) -> Iterator[Window]:
    """Every element of every partition once, in order: small partitions together, large ones cut.

    Args:
        sizes: elements of each partition.
        codec: how deltas are stored.
        row_bytes: of a window at most, unless a single chunk takes more.
    """
    chunk = _room(CHUNK, codec)
    row_bytes = max(row_bytes // LINE * LINE, chunk)
    pieces: list[Piece] = []
    left = row_bytes
    for partition, size in enumerate(sizes):
        start = 0
        while start < size:
            length = size - start
            if _room(length, codec) > left:
                length = left // chunk * CHUNK
            if length:
                pieces.append(Piece(partition, start, start + length))
                left -= _room(length, codec)
                start += length
            if start < size:  # the rest is for the next window
                yield _laid_out(pieces, codec)
                pieces, left = [], row_bytes
    if pieces:
        yield _laid_out(pieces, codec)


def _room(numel: int, codec: Codec) -> int:
    """Bytes of a row that a piece takes."""
    return _lines(numel * codec.dtype.itemsize) + (4 * blocks(numel) if codec.scaled else 0)


def _laid_out(pieces: Sequence[Piece], codec: Codec) -> Window:
    end, codes, scales = 0, [], []
    for piece in pieces:
        codes.append(end)
        end += _lines(piece.numel * codec.dtype.itemsize)
    if codec.scaled:
        for piece in pieces:
            scales.append(end)
            end += 4 * blocks(piece.numel)
    return Window(tuple(pieces), tuple(codes), tuple(scales), _lines(end))


def _lines(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE
