"""The choice of backend."""

import importlib
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from avil_fast import ops
from avil_fast.ops import backend as choice
from avil_fast.ops.backend import BackendError, implementation, require_known
from avil_fast.ops.delta_gram import reference

FP32, FP64 = torch.zeros(1), torch.zeros(1, dtype=torch.float64)


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AVIL_BACKEND", raising=False)
    monkeypatch.delenv("AVIL_ISA", raising=False)
    return importlib.import_module("avil_fast._C")  # `make` builds it: a build that failed fails the tests


@pytest.fixture
def no_extension(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AVIL_BACKEND", raising=False)
    monkeypatch.setitem(sys.modules, "avil_fast.ops.cpu", None)
    choice._load.cache_clear()
    choice._warn_once.cache_clear()
    yield
    choice._load.cache_clear()
    choice._warn_once.cache_clear()


def test_the_extension_serves_what_it_can(extension) -> None:
    from avil_fast.ops import cpu

    assert implementation("delta_gram", reference, FP32) is cpu.delta_gram
    assert implementation("delta_gram", reference, FP32, FP64) is reference


def test_memory_of_another_device_is_not_read_as_the_cpu_s(extension) -> None:
    """Of an Apple GPU, say: the extension takes addresses."""
    assert implementation("delta_gram", reference, FP32.to("meta")) is reference


FIRST_USE = """
import sys, torch
from avil_fast import ops
ops.weighted_sum_([torch.ones(9)], [torch.ones(9)], [torch.ones(3, 9)], [], torch.ones(3))
print(*(name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))))
"""


def test_first_use_does_not_import_the_compiler(extension) -> None:
    """Its import takes most of a second; `python -m benchmarks.kernels` shows what the first use costs."""
    imported = subprocess.check_output([sys.executable, "-c", FIRST_USE], text=True).split()
    assert imported == []


def test_fp64_runs_on_the_reference(extension) -> None:
    codes = [torch.ones(2, 3, dtype=torch.float64)]
    assert ops.delta_gram(codes, []).tolist() == [[3, 3], [3, 3]]


def test_forced_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVIL_BACKEND", "reference")
    assert implementation("delta_gram", reference, FP32) is reference


def test_forced_but_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVIL_BACKEND", "gpu")
    with pytest.raises(BackendError, match="'gpu', but must be one of reference, cpu, triton"):
        implementation("delta_gram", reference, FP32)


def test_what_cannot_be_forced_is_known_before_the_first_operation(
    no_extension, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_known()
    monkeypatch.setenv("AVIL_BACKEND", "gpu")
    with pytest.raises(BackendError, match="'gpu', but must be one of reference, cpu, triton"):
        require_known()
    monkeypatch.setenv("AVIL_BACKEND", "cpu")
    with pytest.raises(BackendError, match=r"build it with `pip install --no-deps -e \.`"):
        require_known()
    monkeypatch.setenv("AVIL_BACKEND", "reference")
    monkeypatch.setenv("AVIL_ISA", "sse9")  # of kernels that are not there
    require_known()


def test_forced_but_of_another_dtype(extension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVIL_BACKEND", "cpu")
    with pytest.raises(BackendError, match=r"'cpu', but a tensor is torch\.float64, and it serves"):
        implementation("delta_gram", reference, FP64)


def test_forced_but_on_another_device(extension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVIL_BACKEND", "cpu")
    with pytest.raises(BackendError, match="the tensors are on meta, and it serves cpu"):
        implementation("delta_gram", reference, FP32.to("meta"))


def test_forced_but_not_built(no_extension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVIL_BACKEND", "cpu")
    with pytest.raises(BackendError, match=r"build it with `pip install --no-deps -e \.`"):
        implementation("delta_gram", reference, FP32)


def test_not_built_is_said_once(no_extension) -> None:
    with pytest.warns(UserWarning, match=r"not built.*`pip install --no-deps -e \.`"):
        assert implementation("delta_gram", reference, FP32) is reference
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert implementation("delta_gram", reference, FP32) is reference


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch):
    """A tensor on a GPU of compute capability 7.5, as far as the choice of backend can tell."""
    from avil_fast.ops import triton

    monkeypatch.delenv("AVIL_BACKEND", raising=False)
    monkeypatch.setattr(triton, "DEVICES", {"cuda"})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    for cached in (triton.obstacle, choice._warn_once):
        cached.cache_clear()
    yield SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0), dtype=torch.float32)
    for cached in (triton.obstacle, choice._warn_once):
        cached.cache_clear()


def test_an_old_gpu_is_said_once_and_runs_on_the_reference(old_gpu) -> None:
    message = r"slower torch reference: Tesla T4 has compute capability 7\.5, .* need 8\.0 \(A100\) or later"
    with pytest.warns(UserWarning, match=message):
        assert implementation("delta_gram", reference, old_gpu) is reference
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert implementation("delta_gram", reference, old_gpu) is reference


def test_forced_on_an_old_gpu(old_gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVIL_BACKEND", "triton")
    with pytest.raises(BackendError, match=r"'triton', but Tesla T4 .* 7\.5, .*; unset AVIL_BACKEND, or set"):
        implementation("delta_gram", reference, old_gpu)


def test_a_gpu_that_is_new_enough(old_gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    from avil_fast.ops import triton

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert implementation("delta_gram", reference, old_gpu) is triton.delta_gram


def test_an_unknown_instruction_set(extension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVIL_ISA", "sse9")
    with pytest.raises(ValueError, match="AVIL_ISA is 'sse9', but must be portable, avx2 or avx512"):
        ops.delta_gram([torch.ones(2, 3)], [])
    with pytest.raises(BackendError, match=r"'sse9', but must be .*; unset AVIL_ISA, or set it to portable"):
        require_known()


def test_what_serves_is_told_to_people(extension) -> None:
    assert choice.describe("cpu") == f"cpu, {extension.isa()}"
    assert choice.describe("triton") == "triton"


def test_an_unknown_instruction_set_is_told_to_people(extension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVIL_ISA", "sse9")
    assert choice.describe("cpu").startswith("cpu, but AVIL_ISA is 'sse9', but must be portable, avx2 or avx512")


def test_what_serves_without_the_extension_is_told_with_what_brings_it(no_extension) -> None:
    assert choice.describe("cpu") == f"the slower torch reference: {choice.REMEDIES['cpu']}"
