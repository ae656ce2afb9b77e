"""What befalls the bytes of a file."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

PIECES = (
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xe9",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r",
    b"\r\n\r\n",
    b"\n",
    b"\t",
    b"\x1b[2J",
    b"\x0b\x0c\x1c\x85",
    "\u2028\u200b\u202e\xa0".encode(),
    b'"',
    b"'",
    b",",
    b":",
    b"#",
    b"{",
    b"]",
    b"\\",
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b"[" * 3000,
    b"w1 " * 30_000,
)


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def flipped(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def with_more(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.choice(PIECES) + content[at:]


def without_some(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + content[at + draw.choice((1, 1, 2, 10, 100)) :]


def with_some_again(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    part = content[at : at + draw.choice((1, 10, 100))]
    return content[:at] + part * draw.choice((2, 2, 50)) + content[at + len(part) :]


def in_another_order(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    draw.shuffle(lines)
    return b"".join(lines)


def without_meaning(content: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(draw.choice((1, 8, 4000)))


ALL: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    cut,
    flipped,
    with_more,
    with_more,
    without_some,
    with_some_again,
    in_another_order,
    without_meaning,
)


def damaged(content: bytes, count: int, seed: str) -> Iterator[bytes]:
    """So many contents that something befell, or two or three things; the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        found = content
        for _ in range(draw.choice((1, 1, 2, 3))):
            found = draw.choice(ALL)(found or content, draw)
        yield found
