"""The search for tile sizes on a GPU: `python -m benchmarks.tiles --op capture_ --codec int8`.

Runs an operation with every configuration around the shipped one (`kernels/configs.py`) and prints GB/s, the
fastest first. One that is to be shipped must pass tests/kernels/test_compiled.py, which looks for spills.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import torch
import triton
from torch import Tensor

from avil_fast.deltas.codec import CODECS
from avil_fast.kernels import configs
from benchmarks import command
from benchmarks.buffers import Buffers, make
from benchmarks.kernels import OPERATIONS, about
from benchmarks.timing import Call, seconds_of

TASKS = (2, 8, 32)
WARPS = (1, 2, 4, 8)


def candidates(op: str, codec: torch.dtype, n: int) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """(a configuration, what makes it the one that is used), the shipped one first."""
    table: dict[Any, Any]
    match op:
        case "weighted_sum_":
            table, key = configs.WEIGHTED_SUM, codec
            choices = {"rows": (1, 2, 4, 8), "warps": WARPS, "unroll": (2, 4, 8)}
        case "capture_":
            table, key = configs.CAPTURE, codec
            choices = {"rows": (1, 2, 4, 8), "warps": WARPS, "stages": (1, 2, 3, 4)}
        case "delta_dots":
            table = configs.DELTA_DOTS[codec]
            key = min(max(table), triton.next_power_of_2(n))
            choices = {"rows": (1, 2, 4, 8, 16), "warps": WARPS, "lane": (4, 8, 16)}
        case _:
            table, key = configs.DELTA_GRAM[codec], max(16, triton.next_power_of_2(n))
            choices = {"width": (32, 64, 128, 256), "warps": WARPS, "stages": (3, 4)}
    shipped = table[key]
    found = [replace(shipped, **dict(zip(choices, values, strict=True))) for values in product(*choices.values())]
    for config in dict.fromkeys([shipped, *found]):
        yield config, lambda config, table=table, key=key: table.__setitem__(key, config)


def gbps(op: str, codec: str, b: Buffers, device: torch.device, repeats: int) -> float:
    """By the median of so many calls."""
    operation = OPERATIONS[op]
    call = Call(lambda: operation.run(b), lambda: operation.prepare(b))
    seconds_of(call, device)
    seconds = statistics.median(seconds_of(call, device) for _ in range(repeats))
    return operation.bytes_per_element(b.n, CODECS[codec].bytes_per_element) * b.numel / seconds / 1e9


def result(op: str, b: Buffers) -> Tensor:
    """What the operation returns or writes first."""
    OPERATIONS[op].prepare(b)
    return OPERATIONS[op].outcome(b, OPERATIONS[op].run(b))[0].double().clone()


def main() -> None:
    parser = command.parser("tiles", __doc__)
    parser.add_argument("--op", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument("--codec", nargs="+", choices=CODECS, default=list(CODECS))
    parser.add_argument("--n", nargs="+", type=int, default=list(TASKS))
    parser.add_argument("--numel", type=int, default=1 << 26, help="parameters (default: 2^26)")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cuda", help="cpu: to try the search itself, AVIL_BACKEND=triton")
    options = parser.parse_args()
    device = torch.device(options.device)
    figures: dict[str, Any] = about(device) | {"numel": options.numel, "rows": []}
    for op, codec, n in product(options.op, options.codec, options.n):
        if op == "capture_" and n != options.n[0]:
            continue
        b = make(codec, n, options.numel, device, seed=0)
        truth, rows = None, []
        for number, (config, use) in enumerate(candidates(op, CODECS[codec].dtype, n)):
            use(config)
            try:
                found = result(op, b)
            except (triton.CompilationError, triton.OutOfResources):  # more registers or memory than there are
                continue
            truth = found if truth is None else truth
            if float((found - truth).norm() / truth.norm()) > 1e-5:
                raise RuntimeError(f"{op} of {n} {codec} deltas is wrong with {config}")
            rows.append((gbps(op, codec, b, device, options.repeats), config, number == 0))
        use(next(config for _, config, shipped in rows if shipped))
        print(f"{op} of {n} {codec} deltas", flush=True)
        for rate, config, shipped in sorted(rows, key=lambda row: -row[0]):
            figures["rows"].append({"op": op, "codec": codec, "n": n, "config": str(config), "gbps": round(rate)})
            if shipped or rate > 0.97 * max(row[0] for row in rows):
                print(f"  {rate:7.0f} {config}{'  <- shipped' if shipped else ''}", flush=True)
        command.write(options.json, figures)


if __name__ == "__main__":
    main()
