"""The streamed bank against a plain copy from pinned memory: `python -m benchmarks.streamed`.

For each operation, codec and number of deltas: bytes that go to the device, GB/s, percent of a copy of as many
bytes, and how many times as long as with the bank on the device. All are timed in turns. An operation whose
result is not that of the bank on the device ends the run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from avil_fast.deltas.bank import Bank
from avil_fast.deltas.base import DeltaBank
from avil_fast.deltas.codec import CODECS
from avil_fast.deltas.streamed import WINDOW, StreamedBank
from benchmarks import command
from benchmarks.cell import HEADER, Cell, against_roof, line
from benchmarks.kernels import about
from benchmarks.roof import roof
from benchmarks.timing import Call, interleaved


@dataclass
class Row(Cell):
    """A cell, and how many times as long it takes as with the bank on the device."""

    times_resident: float


def measure(
    codec: str, n: int, numel: int, device: torch.device, repeats: int, window_bytes: int = WINDOW
) -> list[Row]:
    """Both operations of an α step.

    Raises:
        RuntimeError: a result is wrong.
    """
    torch.manual_seed(0)
    base, out = [torch.randn(numel, device=device)], [torch.empty(numel, device=device)]
    alpha = torch.rand(n).tolist()
    resident = Bank(n, [numel], CODECS[codec], device)
    streamed = StreamedBank(n, [numel], CODECS[codec], device, window_bytes)
    for slot in range(n):
        delta = torch.randn(numel, device=device).mul_(1e-3)
        for bank in (resident, streamed):
            torch.add(base[0], delta, out=out[0])
            bank.capture_(slot, out, base)
    del delta
    operations: dict[str, Callable[[DeltaBank], object]] = {
        "weighted_sum_": lambda bank: bank.weighted_sum_(out, base, alpha),
        "delta_dots": lambda bank: bank.dots(base),
    }
    streamed.weighted_sum_(out, base, alpha)
    theta = out[0].clone()
    resident.weighted_sum_(out, base, alpha)
    if not torch.equal(theta, out[0]):
        raise RuntimeError(f"weighted_sum_ with {codec} and n = {n} is not that of the bank on the device")
    del theta
    dots = torch.tensor([streamed.dots(base), resident.dots(base)], dtype=torch.float64)
    lengths = torch.tensor(resident.gram(), dtype=torch.float64).diagonal().sqrt()
    if torch.any((dots[0] - dots[1]).abs() > 1e-12 * float(base[0].norm()) * lengths):
        raise RuntimeError(f"delta_dots with {codec} and n = {n} is not that of the bank on the device")
    move, moved = roof("upload", streamed.nbytes, device)
    rows = []
    for name, run in operations.items():
        call = Call(lambda run=run: run(streamed))
        seconds = interleaved({"roof": [Call(move)], name: [call]}, device, repeats)
        # Apart from these: what is many times as fast would have them sit out most turns.
        seconds |= interleaved({"resident": [Call(lambda run=run: run(resident))]}, device, repeats)
        figures = against_roof(seconds[name], seconds["roof"], streamed.nbytes, moved)
        times = statistics.median(seconds[name]) / statistics.median(seconds["resident"])
        rows.append(Row(name, codec, n, **figures, times_resident=times))
    return rows


def main() -> None:
    parser = command.parser("streamed", __doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--numel", type=int, default=1 << 27, help="parameters (default: 2^27)")
    parser.add_argument("--repeats", type=int, default=7, help="turns")
    parser.add_argument("--codec", nargs="+", choices=CODECS, default=list(CODECS))
    parser.add_argument("--n", nargs="+", type=int, default=[8])
    parser.add_argument("--window", type=int, default=WINDOW, help=f"bytes (default: {WINDOW})")
    options = parser.parse_args()
    device, rows = torch.device(options.device), []
    result = about(device) | {name: getattr(options, name) for name in ("numel", "repeats", "window")}
    print(*(f"{key} {value}" for key, value in result.items()), sep=", ")
    print(f"{HEADER}  times as long as on the device", flush=True)
    for codec in options.codec:
        for n in options.n:
            for row in measure(codec, n, options.numel, device, options.repeats, options.window):
                rows.append(row)
                print(f"{line(row)}  {row.times_resident:.1f}", flush=True)
    command.write(options.json, result | {"rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
