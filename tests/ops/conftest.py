"""The backend under test comes from one place: every value test runs on the reference and on each kernel."""

from collections.abc import Iterator

import pytest
import torch
from processor import ISAS, PROCESSOR_HAS


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force the C++ kernels of one instruction set."""
    _force_isa(request.param, monkeypatch)
    return str(request.param)


@pytest.fixture(params=["reference", *(f"cpu-{isa}" for isa in ISAS)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force a backend, the C++ kernels once per instruction set."""
    name, _, isa = request.param.partition("-")
    if isa:
        _force_isa(isa, monkeypatch)
    monkeypatch.setenv("AVIL_BACKEND", name)
    return str(request.param)


def _force_isa(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isa not in PROCESSOR_HAS:
        pytest.skip(f"this processor lacks {isa}")
    monkeypatch.setenv("AVIL_BACKEND", "cpu")
    monkeypatch.setenv("AVIL_ISA", isa)


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # quicker for small tensors, and pytest-xdist has the other cores
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
