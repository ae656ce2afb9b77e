"""Copies and computation of the streamed bank overlap, and never touch the same memory out of order."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from avil_fast.deltas.codec import CODECS
from avil_fast.deltas.streamed import BUFFERS, StreamedBank
from avil_fast.ops.encoding import CHUNK
from tests.deltas.streams import Races, watched

WINDOWS = 7
SIZES = (WINDOWS * CHUNK,)


def capture(bank: StreamedBank, flat: list[Tensor]) -> None:
    bank._capture_(0, flat, [torch.zeros(SIZES)], [])


OPERATIONS: dict[str, Callable[[StreamedBank, list[Tensor]], object]] = {
    "weighted_sum_": lambda bank, flat: bank._weighted_sum_(flat, flat, torch.ones(1, dtype=torch.float64), []),
    "delta_dots": lambda bank, flat: bank._dots(flat),
    "delta_gram": lambda bank, flat: bank._gram(),
    "capture_": capture,
}


def run(races: Races, names: tuple[str, ...]) -> StreamedBank:
    bank = StreamedBank(1, SIZES, CODECS["fp32"], torch.device("cpu"), 1)
    flat = [torch.zeros(SIZES)]
    with races:
        for name in names:
            OPERATIONS[name](bank, flat)
    return bank


@pytest.mark.parametrize("names", [*itertools.product(OPERATIONS, repeat=2)], ids="-".join)
def test_whatever_follows_whatever(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(monkeypatch) as races:
        run(races, names)
    assert {access.stream for access in races.log} == {"compute", "copies"}


def test_a_captured_delta_is_complete_for_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(monkeypatch) as races:
        bank = run(races, ("capture_",))
        for rows in bank._host:
            races.access("read", rows, writes=False)


@pytest.mark.parametrize("name", ["weighted_sum_", "delta_dots", "delta_gram"])
def test_the_next_window_is_copied_while_one_is_computed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(monkeypatch) as races:
        run(races, (name,))
    copies = [access for access in races.log if access.stream == "copies" and access.writes]
    computed = [access for access in races.log if access.operation == name and not access.writes]
    computed = [access for access in computed if access.storage in {copy.storage for copy in copies}]
    assert len(copies) == len(computed) == WINDOWS
    for k in range(WINDOWS - 1):
        assert races.log.index(copies[k + 1]) < races.log.index(computed[k]), "it is not called for in time"
        assert not computed[k].before(copies[k + 1]), "it waits"
        if k >= BUFFERS:
            assert computed[k - BUFFERS].before(copies[k])


def test_a_row_is_copied_back_while_the_next_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(monkeypatch) as races:
        bank = run(races, ("capture_",))
    staging = {buffer.bytes.untyped_storage().data_ptr() for buffer in bank._buffers}
    encoded = [a for a in races.log if a.operation == "capture_" and a.storage in staging]
    copies = [a for a in races.log if a.stream == "copies" and not a.writes]
    assert len(encoded) == len(copies) == WINDOWS
    for k in range(WINDOWS - 1):
        assert not copies[k].before(encoded[k + 1])
