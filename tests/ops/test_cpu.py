"""What is true of the C++ backend alone: its memory, its threads, and agreement among instruction sets."""

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bank_truth import CODECS, assert_same_bits, poisoned, random_bank, random_flats
from processor import PROCESSOR_HAS

from avil_fast import _C, ops
from avil_fast.ops.checks import MAX_TASKS
from avil_fast.ops.encoding import BLOCK

MIB = 1 << 20
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _status(field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())[1]) << 10


@pytest.mark.skipif(not os.access(RESET, os.W_OK), reason="needs Linux, to reset the peak of resident memory")
@pytest.mark.parametrize("operation", ["weighted_sum_", "delta_dots", "capture_", "delta_gram"])
@pytest.mark.parametrize("codec", CODECS)
def test_no_operation_allocates_beyond_its_outputs(codec: str, operation: str) -> None:
    size = (1 << 22,)  # one row of it is 4 to 16 MiB
    bank, base, theta = random_bank(4, codec, size), random_flats(size), random_flats(size)
    calls = {
        "weighted_sum_": lambda: ops.weighted_sum_(theta, base, bank.codes, bank.scales, torch.ones(4)),
        "delta_dots": lambda: ops.delta_dots(base, bank.codes, bank.scales),
        "capture_": lambda: ops.capture_(bank.codes, bank.scales, 0, theta, base),
        "delta_gram": lambda: ops.delta_gram(bank.codes, bank.scales),
    }
    calls[operation]()  # starts the threads
    gc.collect()
    RESET.write_text("5")
    before = _status("VmRSS")
    calls[operation]()
    assert _status("VmHWM") - before <= MIB


def test_the_best_instruction_set_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVIL_ISA", raising=False)
    assert _C.isa() == PROCESSOR_HAS[-1]


@pytest.mark.skipif("avx512" not in PROCESSOR_HAS, reason="this processor lacks avx512")
@pytest.mark.parametrize("codec", CODECS)
def test_avx2_and_avx512_agree_bit_for_bit(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, base, alpha = random_bank(5, codec), random_flats(), torch.randn(5)
    results = []
    for isa in ("avx2", "avx512"):
        monkeypatch.setenv("AVIL_ISA", isa)
        assert _C.isa() == isa
        out = poisoned()
        ops.weighted_sum_(out, base, bank.codes, bank.scales, alpha)
        dots, gram = ops.delta_dots(base, bank.codes, bank.scales), ops.delta_gram(bank.codes, bank.scales)
        results.append([*out, dots, gram])
    for a, b in zip(*results, strict=True):
        assert_same_bits(a, b)


FORK = """
import os, torch
from avil_fast import _C, ops
from avil_fast.ops.checks import MAX_TASKS
from avil_fast.ops.encoding import BLOCK
torch.set_num_threads(2)
codes, grad = [torch.ones(4, 1 << 20)], [torch.ones(1 << 20)]
BEFORE
child = os.fork()
right = ops.delta_dots(grad, codes, []).tolist() == [1 << 20] * 4
if child == 0:
    os._exit(0 if right else 1)
assert right and os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    "before", ["ops.delta_dots(grad, codes, [])", "grad[0].add_(0)"], ids=["ops", "torch alone"]
)
def test_a_forked_child_has_threads_of_its_own(before: str) -> None:
    """As the workers of a DataLoader are: OpenMP's threads do not survive a fork, so the child uses the pool."""
    options = ["-W", "ignore", "-c", FORK.replace("BEFORE", before)]
    subprocess.run([sys.executable, *options], check=True, timeout=60, env={**os.environ, "AVIL_BACKEND": "cpu"})


def test_many_partitions() -> None:
    sizes = tuple(i % 7 for i in range(3000))
    bank, grad = random_bank(2, "fp32", sizes), random_flats(sizes)
    truth = sum(d @ g.double() for d, g in zip(bank.deltas, grad, strict=True))
    torch.testing.assert_close(ops.delta_dots(grad, bank.codes, []), truth, rtol=1e-6, atol=1e-4)


def test_its_constants_are_those_of_the_checks() -> None:
    assert (_C.BLOCK, _C.MAX_TASKS) == (BLOCK, MAX_TASKS)
