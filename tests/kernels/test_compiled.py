"""The code of every shipped configuration, compiled for GPUs that need not be there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.speed import slow_but

SCRIPT = Path(__file__).parent / "compile_ahead.py"
SIZE = {"fp32": 4, "bf16": 2, "int8": 1, "fp8": 1}
CAPABILITIES = (80, 90)


@cache
def codes(capability: int) -> list[dict[str, Any]]:
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    output = subprocess.check_output([sys.executable, str(SCRIPT), str(capability)], env=env)
    found: list[dict[str, Any]] = json.loads(output)
    return found


def accesses(*shares: tuple[int, int]) -> dict[str, int]:
    """How many of each width: a thread moves its share of a tile, so many elements of so many bytes, 16 bytes at a
    time, or at once if it is less."""
    found: dict[str, int] = {}
    for elements, size in shares:
        width = min(16, elements * size)
        assert elements * size % width == 0
        found[str(width)] = found.get(str(width), 0) + elements * size // width
    return found


@pytest.mark.parametrize("capability", slow_but(90, of=CAPABILITIES))
def test_every_operation_and_codec_is_compiled(capability: int) -> None:
    found = {(code["operation"], code["codec"]) for code in codes(capability)}
    operations = ("weighted_sum_", "delta_dots", "capture_", "delta_gram")
    assert found == {(operation, codec) for operation in operations for codec in SIZE} | {("reduce", "")}


@pytest.mark.parametrize("capability", slow_but(90, of=CAPABILITIES))
def test_nothing_is_spilled_to_local_memory(capability: int) -> None:
    found = [code for code in codes(capability) if code["spilled"]]
    # Loads an element wide of all deltas at once, once a round.
    assert [code for code in found if code["aligned"] or code["operation"] != "delta_gram"] == []


@pytest.mark.parametrize("capability", slow_but(90, of=CAPABILITIES))
def test_each_byte_moves_once_and_as_many_at_a_time_as_can(capability: int) -> None:
    """Counted in accesses of a thread per tile: 8 + n·e bytes per element, 4 + n·e, 12 + e, n·e."""
    for code in codes(capability):
        if code["operation"] == "reduce" or not code["aligned"]:
            continue
        elements, flat = code["elements"], (code["elements"], 4)
        delta = elements, SIZE[code["codec"]]
        low = [(elements, 2)] if code["low"] else []
        match code["operation"]:
            case "weighted_sum_":  # a loop over some deltas at a time, and the rest
                n, unroll = code["n"], code["unroll"]
                deltas = n if n <= unroll else unroll + n % unroll
                loads, stores = [flat, *[delta] * deltas], [flat, *low]
            case "delta_dots":
                loads, stores = [delta, (elements // code["n"], SIZE[code["grad"]])], []
            case "capture_":
                loads, stores = [flat, flat] * code["unroll"], [flat, delta, *low]
            case "delta_gram":  # a loop in stages: all but one load ahead of it
                loads, stores = [delta] * code["unroll"], []
        # Loads of 4 bytes are those of scales.
        assert {w: count for w, count in code["loads"].items() if int(w) > 4} == accesses(*loads), code
        assert {w: count for w, count in code["stores"].items() if int(w) > 0} == accesses(*stores), code
