"""The operations under pytest-benchmark: `pytest --benchmark`. Figures against the roof: benchmarks.kernels."""

from __future__ import annotations

import pytest
import torch

from avil_fast.deltas.codec import CODECS
from benchmarks.buffers import make
from benchmarks.kernels import OPERATIONS

NUMEL = 1 << 22
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


@pytest.mark.parametrize("n", [2, 16])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(benchmark, name: str, codec: str, n: int) -> None:
    operation, buffers = OPERATIONS[name], make(codec, n, NUMEL, DEVICE, seed=0)
    benchmark.group = f"{codec}, n = {n}"
    benchmark.extra_info["bytes"] = operation.bytes_per_element(n, CODECS[codec].bytes_per_element) * NUMEL

    def prepare() -> None:
        operation.prepare(buffers)
        wait()

    def run() -> None:
        operation.run(buffers)
        wait()

    benchmark.pedantic(run, setup=prepare, rounds=10, warmup_rounds=2)
    operation.prepare(buffers)
    truth = operation.reference(buffers).double()
    operation.prepare(buffers)
    assert (operation.run(buffers).double() - truth).norm() <= 1e-5 * truth.norm()
