"""The four operations against the roof and against what torch offers: `python -m benchmarks.kernels`.

For each operation, codec and number of deltas: bytes moved, GB/s, percent of the roof, and how many times
as fast as each alternative. All are timed in turns, and a ratio is the median of the turns' ratios. An
alternative whose result is wrong gets no ratio; an operation whose result is wrong ends the run.
"""

from __future__ import annotations

import math
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avil_fast import ops
from avil_fast.deltas.codec import CODECS
from avil_fast.ops import capture, weighted_sum
from avil_fast.ops.delta_dots import reference as dots_reference
from avil_fast.ops.delta_gram import reference as gram_reference
from avil_fast.ops.encoding import BLOCK, decode
from benchmarks import command
from benchmarks.alternatives import ALTERNATIVES, alternatives
from benchmarks.buffers import ROTATION, Buffers, make
from benchmarks.cell import HEADER, Cell, against_roof, line
from benchmarks.roof import roof
from benchmarks.timing import Call, interleaved, ratio

TASKS = (2, 4, 8, 16, 32)
TOLERANCE = {"weighted_sum_": 1e-6, "delta_dots": 1e-5, "capture_": 1e-6, "delta_gram": 1e-5}
"""‖result − truth‖ over ‖truth‖ that an operation may have; an alternative a thousand times as much."""

SLACK = 1000


@dataclass
class Row(Cell):
    """A cell, and how the alternatives compare."""

    ratios: dict[str, float]
    """Seconds of an alternative over the operation's: above 1 the operation is faster."""


@dataclass(frozen=True)
class Operation:
    """How an operation is called, what it costs, and what its result should be."""

    run: Callable[[Buffers], Tensor]
    reference: Callable[[Buffers], Tensor]
    roof: str
    bytes_per_element: Callable[[int, float], float]
    """Of the number of deltas and the bytes of a delta's element, as in DESIGN's table."""
    prepare: Callable[[Buffers], object] = lambda b: None
    """Before every call."""
    outcome: Callable[[Buffers, Tensor], list[Tensor]] = lambda b, returned: [returned]
    """All that a call made, of what it returned and wrote."""


def _sum(b: Buffers) -> Tensor:
    ops.weighted_sum_([b.out], [b.base], *b.bank, b.alpha)
    return b.out


def _sum_reference(b: Buffers) -> Tensor:
    truth = b.base.double()
    weighted_sum.reference([truth], [truth], *b.bank, b.alpha, [])
    return truth


def _trained(b: Buffers) -> None:
    """θ as a task's training leaves it."""
    torch.add(b.base, b.base.roll(1), alpha=1e-3, out=b.out)


def _captured(b: Buffers, squares: Tensor) -> list[Tensor]:
    row = decode(b.codes[0], b.scales[0][0] if b.scales else None, 0, b.numel, torch.float64)
    return [squares, row, b.out]


OPERATIONS = {
    "weighted_sum_": Operation(_sum, _sum_reference, "copy", lambda n, e: 8 + n * e),
    "delta_dots": Operation(
        lambda b: ops.delta_dots([b.base], *b.bank),
        lambda b: dots_reference([b.base], *b.bank),
        "read",
        lambda n, e: 4 + n * e,
    ),
    "capture_": Operation(
        lambda b: ops.capture_(*b.bank, 0, [b.out], [b.base]),
        lambda b: capture.reference(*b.bank, 0, [b.out], [b.base], []),
        "copy",
        lambda n, e: 12 + e,
        _trained,
        _captured,
    ),
    "delta_gram": Operation(
        lambda b: ops.delta_gram(*b.bank), lambda b: gram_reference(*b.bank), "read", lambda n, e: n * e
    ),
}


def measure(
    name: str,
    codec: str,
    n: int,
    numel: int,
    device: torch.device,
    repeats: int,
    against: Collection[str] | None = None,
) -> Row:
    """One cell: the operation, its roof and its alternatives, in turns.

    Raises:
        RuntimeError: the operation's result is wrong.
    """
    operation = OPERATIONS[name]
    nbytes = int(operation.bytes_per_element(n, CODECS[codec].bytes_per_element) * numel)
    sets = [make(codec, n, numel, device, seed) for seed in range(max(1, min(4, ROTATION // nbytes)))]
    others = {key: f for key, f in alternatives(name, codec).items() if against is None or key in against}
    operation.prepare(sets[0])
    truth = [made.double().clone() for made in operation.outcome(sets[0], operation.reference(sets[0]))]
    error = _error(operation, operation.run, sets[0], truth)
    if error > TOLERANCE[name]:
        raise RuntimeError(f"{name} with {codec} and n = {n} is wrong: its relative error is {error:.1e}")
    right = {key: f for key, f in others.items() if _fits(operation, f, sets[0], truth) <= SLACK * TOLERANCE[name]}
    del truth
    move, moved = roof(operation.roof, nbytes, device)

    def variants(call: Callable[[Buffers], Tensor]) -> list[Call]:
        return [Call(lambda b=b: call(b), lambda b=b: operation.prepare(b)) for b in sets]

    calls = {"roof": [Call(move)], name: variants(operation.run)}
    seconds = interleaved(calls | {key: variants(f) for key, f in right.items()}, device, repeats)
    figures = against_roof(seconds[name], seconds["roof"], nbytes, moved)
    return Row(name, codec, n, **figures, ratios={key: ratio(seconds[key], seconds[name]) for key in right})


def measured(
    name: str,
    codec: str,
    n: int,
    numel: int,
    device: torch.device,
    repeats: int,
    against: Collection[str] | None,
) -> Row | str:
    """One cell; or, where the device lacks the memory for it, a sentence in its place."""
    try:
        return measure(name, codec, n, numel, device, repeats, against)
    except torch.OutOfMemoryError:
        pass  # what it holds is let go with the exception, before the next line
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return f"{name:14} {codec:5} {n:>3} skipped: {device} lacks the memory for it; --numel takes fewer parameters"


def _error(operation: Operation, run: Callable[[Buffers], Tensor], b: Buffers, truth: list[Tensor]) -> float:
    """The largest relative error among what a call made."""
    operation.prepare(b)
    made = operation.outcome(b, run(b))
    return max(float((m.double() - t).norm() / t.norm()) for m, t in zip(made, truth, strict=True))


def _fits(operation: Operation, run: Callable[[Buffers], Tensor], b: Buffers, truth: list[Tensor]) -> float:
    """The error of an alternative; infinite for one that needs more memory than the device has."""
    try:
        return _error(operation, run, b, truth)
    except torch.OutOfMemoryError:
        return math.inf


def slopes(rows: list[Row], numel: int) -> Iterator[dict[str, Any]]:
    """Per operation and codec, how time grows with n: what a further delta takes at the roof over what it takes.

    Times are in bytes at the roof of their own turns, for the machine's rate may change between two rows.
    """
    for name in ("weighted_sum_", "delta_dots"):
        for codec in CODECS:
            cells = [row for row in rows if (row.op, row.codec) == (name, codec)]
            if len(cells) < 2:
                continue
            n = torch.tensor([row.n for row in cells], dtype=torch.float64)
            times = torch.tensor([100 * row.bytes / row.percent_of_roof for row in cells], dtype=torch.float64)
            centred = n - n.mean()
            slope = float((centred * times).sum() / centred.square().sum())
            percent = 100 * CODECS[codec].bytes_per_element * numel / slope
            yield {"op": name, "codec": codec, "percent_of_roof": percent}


FIRST_USE = """
import time, torch
from avil_fast import ops
arguments = [torch.ones(9)], [torch.ones(9)], [torch.ones(3, 9)], [], torch.ones(3)
start = time.perf_counter()
ops.weighted_sum_(*arguments)
print(time.perf_counter() - start)
"""


def first_use() -> float:
    """Milliseconds of the first call in a fresh process, the extension's loading included; the median of 5."""
    command = [sys.executable, "-c", FIRST_USE]
    return 1e3 * statistics.median(float(subprocess.check_output(command)) for _ in range(5))


def about(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on and with."""
    found: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version()}
    if device.type == "cuda":
        import triton

        return found | {"device": torch.cuda.get_device_name(device), "triton": triton.__version__}
    try:
        from avil_fast._C import isa
    except ImportError:  # not built: the operations run on the torch reference
        instruction_set = "the extension is not built"
    else:
        instruction_set = isa()
    return found | {
        "device": processor(),
        "threads": torch.get_num_threads(),
        "instruction_set": instruction_set,
    }


def processor() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = command.parser("kernels", __doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--numel", type=int, help="parameters (default: 2^25, on CUDA 2^28)")
    parser.add_argument("--repeats", type=int, default=11, help="turns")
    parser.add_argument("--op", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument("--codec", nargs="+", choices=CODECS, default=list(CODECS))
    parser.add_argument("--n", nargs="+", type=int, default=list(TASKS))
    parser.add_argument(
        "--against",
        nargs="*",
        choices=sorted({name for of in ALTERNATIVES.values() for name in of}),
        help="these alternatives only; torch.compile takes a minute for every number of deltas",
    )
    options = parser.parse_args()
    device, rows = torch.device(options.device), []
    numel = options.numel or (1 << 28 if device.type == "cuda" else 1 << 25)
    if numel < 1 or numel % BLOCK:
        parser.error(f"--numel is {numel}, but must be a multiple of {BLOCK}, as the alternatives need it")
    result = about(device) | {"numel": numel, "repeats": options.repeats}
    print(*(f"{key} {value}" for key, value in result.items()), sep=", ")
    print(f"{HEADER}  times as fast as", flush=True)
    for name in options.op:
        for codec in options.codec:
            for n in options.n if name != "capture_" else options.n[:1]:
                row = measured(name, codec, n, numel, device, options.repeats, options.against)
                if isinstance(row, str):
                    print(row, flush=True)
                    continue
                rows.append(row)
                print(line(row), *(f" {name} {value:.2f}" for name, value in row.ratios.items()), flush=True)
                result |= {"rows": [asdict(r) for r in rows], "slopes": [*slopes(rows, numel)]}
                command.write(options.json, result)  # so that a run that is cut off keeps what it has
    for slope in result.get("slopes", []):
        print(f"{slope['op']:14} {slope['codec']:5} one more delta: {slope['percent_of_roof']:.0f}% of the roof")
    if device.type == "cpu":  # on a GPU, Triton compiles at the first use ever, and keeps the result on disk
        result["first_use_ms"] = first_use()
        print(f"first use: {result['first_use_ms']:.1f} ms")
    command.write(options.json, result)


if __name__ == "__main__":
    main()
