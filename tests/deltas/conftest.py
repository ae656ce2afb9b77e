"""Where torch and triton are alone, as on a machine lent for its GPU, the banks can still be tested."""

from importlib.util import find_spec

import pytest
import torch

collect_ignore = [
    *(["test_codec.py"] if find_spec("pydantic") is None else []),
    *(["test_ledger.py"] if any(find_spec(name) is None for name in ("hypothesis", "avil_fast._C")) else []),
]


@pytest.fixture(autouse=True)
def _no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extension the CPU has the reference alone; unless asked for, that is a warning."""
    if find_spec("avil_fast._C") is None:
        monkeypatch.setenv("AVIL_BACKEND", "reference")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    if request.param == "cuda":
        monkeypatch.delenv("AVIL_BACKEND", raising=False)
    return torch.device(request.param)
