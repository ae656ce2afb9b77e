"""The PTX that turns int8 codes into fp32, carried out in Python: only a GPU runs it."""

from __future__ import annotations

import re
import struct

import pytest

tile = pytest.importorskip("avil_fast.kernels.tile", reason="needs Triton")

OPERATION = re.compile(r"(xor|prmt)\.b32 (\S+), (\S+), (\S+?)(?:, (\S+))?;")


def permuted(a: int, b: int, selector: int) -> int:
    """prmt.b32 without modes: byte k of the result is the byte of b:a that nibble k of the selector names."""
    bytes_ = [*a.to_bytes(4, "little"), *b.to_bytes(4, "little")]
    return int.from_bytes(bytes(bytes_[selector >> 4 * k & 0xF] for k in range(4)), "little")


def run(word: int) -> list[int]:
    """What the four outputs hold for four codes in a word."""
    registers = {"$4": word}

    def value(name: str) -> int:
        return registers[name] if name in registers else int(name, 0)

    for name, to, *arguments in OPERATION.findall(tile.UNPACK.value):
        numbers = [value(argument) for argument in arguments if argument]
        registers[to] = numbers[0] ^ numbers[1] if name == "xor" else permuted(*numbers)
    return [registers[f"${k}"] for k in range(4)]


def test_every_code_at_every_place_is_its_number_after_the_subtraction() -> None:
    for code in range(256):
        codes = [code, (code + 1) % 256, (code + 77) % 256, 255 - code]
        found = run(int.from_bytes(bytes(codes), "little"))
        numbers = [struct.unpack("<f", bits.to_bytes(4, "little"))[0] - 8388736.0 for bits in found]
        assert numbers == [c - 256 if c > 127 else c for c in codes]
