"""Machines do not fail in these tests, so nothing waits for the disk; and all processes round alike."""

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def unsynced() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # torch adds up in another order with another number
        yield
        torch.set_num_threads(threads)
