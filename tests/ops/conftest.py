"""The backend under test comes from one place: every value test runs on the reference and on each kernel."""

import re
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
from processor import ISAS, PROCESSOR_HAS


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force the C++ kernels of one instruction set."""
    _force_isa(request.param, monkeypatch)
    return str(request.param)


# Where torch and triton are alone, as on a machine lent for its GPU, the rest can still run.
collect_ignore = [
    *(["test_encoding.py", "test_properties.py"] if find_spec("hypothesis") is None else []),
    *(["test_cpu.py"] if find_spec("avil_fast._C") is None else []),
]

BACKENDS = [
    "reference",
    *(f"cpu-{isa}" for isa in ISAS),
    pytest.param(
        "triton-interpreter", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    ),
    pytest.param("triton-cuda", marks=pytest.mark.gpu),
]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Force a backend: the C++ kernels once per instruction set, the Triton kernels where they can run."""
    name, _, variant = request.param.partition("-")
    if name == "cpu":
        _force_isa(variant, monkeypatch)
    monkeypatch.setenv("AVIL_BACKEND", name)
    if variant != "cuda":
        yield request.param
        return
    torch.set_default_device("cuda")
    yield request.param
    torch.set_default_device(None)


LONG = re.compile(
    r"test_(every_number_of_tasks|small_terms_survive_among_many|opcheck)\[triton-interpreter"
    r"|test_matches_float64\[triton-interpreter-\w+-(8|13|64)\b"
)
"""What Triton's interpreter takes some seconds for, and does for each codec."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if LONG.match(item.name):
            item.add_marker(pytest.mark.slow)


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
