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

SCRIPT = Path(__file__).parent / "compile_ahead.py"
SIZE = {"fp32": 4, "bf16": 2, "int8": 1, "fp8": 1}
CAPABILITIES = (80, 90)


@cache
def codes(capability: int) -> list[dict[str, Any]]:
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    output = subprocess.check_output([sys.executable, str(SCRIPT), str(capability)], env=env)
    found: list[dict[str, Any]] = json.loads(output)
    return found


def wide(elements: int, size: int) -> int:
    """16-byte accesses for so many elements of so many bytes."""
    assert elements * size % 16 == 0
    return elements * size // 16


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_operation_and_codec_is_compiled(capability: int) -> None:
    found = {(code["operation"], code["codec"]) for code in codes(capability)}
    operations = ("weighted_sum_", "delta_dots", "capture_", "delta_gram")
    assert found == {(operation, codec) for operation in operations for codec in SIZE} | {("reduce", "")}


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_nothing_is_spilled_to_local_memory(capability: int) -> None:
    assert [code for code in codes(capability) if code["spilled"]] == []


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_each_byte_moves_once_and_sixteen_at_a_time(capability: int) -> None:
    """Counted in accesses of a thread per tile: 8 + n·e bytes per element, 4 + n·e, 12 + e, n·e."""
    for code in codes(capability):
        if code["operation"] == "reduce":
            continue
        elements, delta = code["elements"], wide(code["elements"], SIZE[code["codec"]])
        low = wide(elements, 2) if code["low"] else 0
        flat = wide(elements, 4)
        match code["operation"]:
            case "weighted_sum_":  # the loop over deltas stands in the code unrolled, and once for the rest
                bodies = code["unroll"] + 1 if code["unroll"] > 1 else 1
                expected = flat + bodies * delta, flat + low
            case "delta_dots":
                expected = delta + wide(elements // code["n"], SIZE[code["grad"]]), 0
            case "capture_":
                expected = 2 * flat, flat + delta + low
            case "delta_gram":  # a loop in three stages: two loads ahead of it
                expected = 3 * delta, 0
        assert (code["wide_loads"], code["wide_stores"]) == expected, code
