"""The random number generators that a run draws from: torch's, numpy's and Python's own, taken together."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

States = dict[str, Tensor]
"""Bytes by generator: "torch", "numpy", "python", and on a GPU "cuda"."""

CPU = torch.device("cpu")


def derive_seed(*parts: object) -> int:
    """A seed from e.g. (seed, task name, round): independent of the order and number of tasks."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_all(seed: int) -> None:
    """Seed every generator; torch's on all devices."""
    torch.manual_seed(seed)
    _seed_others(seed)


def states(device: torch.device = CPU) -> States:
    """Where every generator stands; on a GPU also that device's."""
    numpy, python = _others()
    saved = {"torch": torch.get_rng_state(), "numpy": _bytes(numpy), "python": _bytes(python)}
    if device.type == "cuda":
        saved["cuda"] = torch.cuda.get_rng_state(device)
    return saved


def restore(saved: States, device: torch.device = CPU) -> None:
    """Put the generators where `saved` has them; one that it does not know stays."""
    torch.set_rng_state(saved["torch"])
    (kind, keys, *rest), (version, internal, gauss) = _values(saved["numpy"]), _values(saved["python"])
    _restore_others((kind, np.array(keys, dtype=np.uint32), *rest), (version, tuple(internal), gauss))
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"], device)


@contextmanager
def isolated(seed: int, device: torch.device) -> Iterator[None]:
    """As `seeded`, on the CPU and on `device`, for as long as a run takes."""
    before = states(device)
    seed_all(seed)
    try:
        yield
    finally:
        restore(before, device)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` on the CPU within, and go on outside as if nothing had been drawn."""
    generator = torch.default_generator
    before, others = generator.get_state(), _others()
    generator.manual_seed(seed)
    _seed_others(seed)
    try:
        yield
    finally:
        generator.set_state(before)
        _restore_others(*others)


# numpy's global generator is what datasets and losses draw from, so it is the one to keep.


def _seed_others(seed: int) -> None:
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def _others() -> tuple[Any, Any]:
    return np.random.get_state(legacy=True), random.getstate()  # noqa: NPY002


def _restore_others(numpy: Any, python: Any) -> None:
    np.random.set_state(numpy)  # noqa: NPY002
    random.setstate(python)


def _bytes(state: Any) -> Tensor:
    values = [value.tolist() if isinstance(value, np.ndarray) else value for value in state]
    return torch.frombuffer(bytearray(json.dumps(values).encode()), dtype=torch.uint8)


def _values(saved: Tensor) -> list[Any]:
    values: list[Any] = json.loads(saved.numpy().tobytes())
    return values
