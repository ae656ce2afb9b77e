"""The least time that each operation can take on a GPU: its bytes over the memory's rate."""

from __future__ import annotations

from collections.abc import Iterator

from avil_fast.deltas.codec import CODECS
from benchmarks.kernels import OPERATIONS

GPUS = {"H100": 3.35e12, "H200": 4.8e12}
"""Bytes per second of the memory, as the maker gives them."""

PCIE = 55e9
"""Bytes per second from pinned memory over PCIe 5 with 16 lanes, about what is left of its 63e9 for data."""

MODELS = {"7B": 7e9, "70B": 70e9}
RANKS = 8
TASKS = 8
ALPHA_STEPS = 10


def bytes_of(operation: str, codec: str, n: int, low: bool) -> float:
    """Bytes per element, with a bf16 copy of what the operation writes if `low`."""
    written = low and operation in ("weighted_sum_", "capture_")
    return OPERATIONS[operation].bytes_per_element(n, CODECS[codec].bytes_per_element) + 2 * written


def operations() -> str:
    """Markdown: bytes per element and milliseconds per billion parameters on each GPU."""
    lines = [
        f"| operation | deltas | bytes per element | {' | '.join(f'{gpu}, ms' for gpu in GPUS)} |",
        "|---|---|---|" + "---|" * len(GPUS),
    ]
    for operation in OPERATIONS:
        for codec in CODECS:
            size = bytes_of(operation, codec, TASKS, low=False)
            times = " | ".join(f"{size * 1e9 / rate * 1e3:.1f}" for rate in GPUS.values())
            lines.append(f"| `{operation}` | {codec} | {size:.1f} | {times} |")
    return "\n".join(lines)


def models() -> str:
    """Markdown: memory per rank, and the operations of a whole round, for large models."""
    lines = [
        f"| parameters | deltas | base, GB | bank, GB | {' | '.join(f'a round on {gpu}, s' for gpu in GPUS)} |",
        "|---|---|---|---|" + "---|" * len(GPUS),
    ]
    for model, numel in MODELS.items():
        lines += ["| " + " | ".join([model, codec, *_model(numel / RANKS, codec)]) + " |" for codec in CODECS]
    return "\n".join(lines)


def streamed() -> str:
    """Markdown: what a bank in CPU memory sends over the bus, for large models."""
    lines = ["| parameters | deltas | GB, one way | an α step, s | a round, s |", "|---|---|---|---|---|"]
    for model, numel in MODELS.items():
        for codec in CODECS:
            nbytes = TASKS * CODECS[codec].bytes_per_element * numel / RANKS
            once = nbytes / PCIE
            passes = 2 * ALPHA_STEPS + 3  # the α steps; the merge, the gram, and all captures together
            lines.append(f"| {model} | {codec} | {nbytes / 1e9:.1f} | {2 * once:.2f} | {passes * once:.1f} |")
    return "\n".join(lines)


def _model(numel: float, codec: str) -> Iterator[str]:
    yield f"{4 * numel / 1e9:.1f}"
    yield f"{TASKS * CODECS[codec].bytes_per_element * numel / 1e9:.1f}"
    sums = (ALPHA_STEPS + 1) * bytes_of("weighted_sum_", codec, TASKS, low=True)
    dots = ALPHA_STEPS * bytes_of("delta_dots", codec, TASKS, low=False)
    captures = TASKS * bytes_of("capture_", codec, TASKS, low=True)
    gram = bytes_of("delta_gram", codec, TASKS, low=False)
    for rate in GPUS.values():
        yield f"{(sums + dots + captures + gram) * numel / rate:.2f}"
