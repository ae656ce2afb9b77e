"""Compile every shipped configuration of the kernels for a GPU that need not be there, and read the code.

Run as a script, apart from the tests, which interpret the kernels: `python compile_ahead.py 90` prints a JSON
list of what `Code` holds.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from avil_fast.kernels import capture, delta_dots, delta_gram, reduce, weighted_sum
from avil_fast.kernels.configs import CAPTURE, DELTA_DOTS, DELTA_GRAM, WEIGHTED_SUM, element, factor
from avil_fast.kernels.tables import CHUNK

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "int8": torch.int8,
    "fp8": torch.float8_e4m3fn,
    None: None,
}
POINTERS = {"partitions": "*i64", "chunks": "*i64", "alpha": "*fp64", "partial": "*fp64", "totals": "*fp64"}
ACCESS = re.compile(r"^\s*(ld|st|cp\.async\.cg\.shared)\.global(\S*)(?:.* (0x10))?")
"""An access to global memory in PTX that no predicate guards."""

BYTES = {".v4.b32": 16, ".v2.b64": 16, ".v2.b32": 8, ".b32": 4}
"""What one moves; scalars of 8 bytes are addresses and lengths, not elements."""

USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass
class Code:
    """One configuration and its compiled code."""

    operation: str
    codec: str
    grad: str | None
    low: str | None
    n: int
    """The number of deltas it is for, where the code depends on that."""
    aligned: bool
    """Every row begins on 16 bytes."""
    elements: int
    """Of a tile, per thread: of one delta, of all in `delta_dots`."""
    unroll: int
    """Deltas whose loads stand together in the code, or tiles that are on the way at once."""
    loads: dict[int, int]
    """How many there are by width in bytes of those that no mask guards, of tiles that lie within a chunk."""
    stores: dict[int, int]
    registers: int
    spilled: int
    """Bytes of stack and local memory."""


def configurations(capability: int, aligned: bool = True) -> Iterator[tuple[Code, Any, dict[str, Any], int]]:
    """(description, kernel, its constants, warps) of all that is shipped."""

    def code(operation: str, codec: str, warps: int, elements: int, **more: Any) -> Code:
        elements //= 32 * warps
        found = {"grad": None, "low": None, "n": 0, "unroll": 1, "aligned": aligned} | more
        return Code(operation, codec, elements=elements, loads={}, stores={}, registers=0, spilled=0, **found)

    for codec in ("fp32", "bf16", "int8", "fp8"):
        dtype = DTYPES[codec]
        common = {"CODE": element(dtype), "SCALED": codec in ("int8", "fp8"), "ALIGNED": aligned}
        reading = common | {"SM": capability}
        for low in (None, "bf16"):
            config = WEIGHTED_SUM[dtype]
            named = {"LOW": element(DTYPES[low]) if low else None}
            constants = reading | named | {"CHUNK": CHUNK, "ROWS": config.rows, "UNROLL": config.unroll}
            for n in (2, 15, 19):  # all unrolled; or some at a time and a rest, which is longest at 15
                yield (
                    code(
                        "weighted_sum_", codec, config.warps, config.rows * 256, low=low, n=n, unroll=config.unroll
                    ),
                    weighted_sum.weighted_sum_kernel,
                    constants | {"N": n},
                    config.warps,
                )
            config = CAPTURE[dtype]
            constants = common | named | {"ROWS": config.rows, "STAGES": config.stages}
            yield (
                code("capture_", codec, config.warps, config.rows * 256, low=low, unroll=config.stages),
                capture.capture_kernel,
                constants,
                config.warps,
            )
        for grad in ("fp32", "bf16"):
            for group, config in DELTA_DOTS[dtype].items():
                constants = reading | {"GRAD": element(DTYPES[grad]), "GROUP": group}
                constants |= {"ROWS": config.rows, "LANE": config.lane}
                yield (
                    code("delta_dots", codec, config.warps, group * config.rows * 256, grad=grad, n=group),
                    delta_dots.delta_dots_kernel,
                    constants,
                    config.warps,
                )
        for side, config in DELTA_GRAM[dtype].items():
            constants = reading | {"FACTOR": factor(dtype), "SIDE": side, "WIDTH": config.width}
            constants |= {"STAGES": config.stages}
            yield (
                code("delta_gram", codec, config.warps, side * config.width, n=side, unroll=config.stages),
                delta_gram.delta_gram_kernel,
                constants,
                config.warps,
            )
    constants = {"ROWS": reduce.ROWS, "WIDTH": reduce.WIDTH}
    yield Code("reduce", "", None, None, 0, aligned, 0, 1, {}, {}, 0, 0), reduce.reduce_kernel, constants, 4


def compiled(kernel: Any, constants: dict[str, Any], warps: int, capability: int) -> Any:
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else POINTERS.get(n, "i32") for n in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n in POINTERS}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})


def read(code: Code, built: Any) -> Code:
    """Fill in what the compiled code shows."""
    for line in built.asm["ptx"].splitlines():
        if found := ACCESS.match(line):
            width = 16 if found[3] else BYTES.get(found[2], 0)
            counts = code.stores if found[1] == "st" else code.loads
            counts[width] = counts.get(width, 0) + 1
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = USAGE.search(subprocess.check_output([tool, "-res-usage", file.name], text=True))
    assert usage
    code.registers, code.spilled = int(usage[1]), int(usage[2]) + int(usage[4])
    return code


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of Triton about a coming default of its own
    capability = int(sys.argv[1])
    print(
        json.dumps(
            [
                asdict(read(c, compiled(k, constants, warps, capability)))
                for aligned in (True, False)
                for c, k, constants, warps in configurations(capability, aligned)
            ]
        )
    )
