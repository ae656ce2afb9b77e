"""A bank is where `deltas.device` says, and one that does not fit is answered with what to change."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from avil_fast.config import DeltasConfig, OptimizerConfig
from avil_fast.deltas.bank import Bank
from avil_fast.deltas.base import DeltaBank
from avil_fast.deltas.codec import CODECS, Codec
from avil_fast.deltas.streamed import HostMemoryError, StreamedBank
from avil_fast.engine import banks, delta_groups
from avil_fast.engine.banks import make_banks
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.parameters import Granularity
from avil_fast.engine.results import over_groups
from avil_fast.engine.settings import EngineSettings
from avil_fast.errors import AvilError
from avil_fast.ops.encoding import CHUNK
from tests.methods.models import CASES, Case

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")


def raising(error: Exception) -> Any:
    def make(*arguments: object, **options: object) -> None:
        raise error

    return make


@pytest.mark.parametrize("where", ["model", "cpu"])
def test_beside_a_model_on_the_cpu_both_places_are_one(where: str) -> None:
    assert [type(bank) for bank in make_banks(2, [[9]], CODECS["fp32"], CPU, where)] == [Bank]


@pytest.mark.parametrize(("where", "kind"), [("model", "Bank"), ("cpu", "StreamedBank")])
def test_beside_a_model_on_a_gpu_they_are_two(where: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Bank", "StreamedBank"):
        monkeypatch.setattr(banks, name, lambda *arguments, name=name, **options: name)
    assert make_banks(2, [[9]], CODECS["fp32"], GPU, where) == [kind]


@pytest.mark.gpu
def test_a_streamed_bank_on_a_gpu() -> None:
    assert [type(bank) for bank in make_banks(2, [[9]], CODECS["fp32"], GPU, "cpu")] == [StreamedBank]


@pytest.mark.parametrize(
    ("codec", "device", "advice"),
    [
        ("fp32", GPU, r"take 8.0 GB, more than cuda:0 has left; set deltas.dtype: bf16 \(4.0 GB\) or .*"),
        ("fp32", GPU, r".* or deltas.device: cpu \(streamed, slower\)$"),
        ("int8", GPU, r".*; set deltas.device: cpu \(streamed, slower\)$"),
        ("int8", CPU, r".*; train with fewer tasks$"),
    ],
)
def test_no_room_beside_the_model(
    codec: str, device: torch.device, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Codec, "allocate", raising(OUT_OF_MEMORY))
    with pytest.raises(AvilError, match=advice):
        make_banks(2, [[10**8], [9 * 10**8]], CODECS[codec], device, "model")


def test_no_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    error = HostMemoryError("the bank needs 8.0 GB of pinned CPU memory, and only 5.1 GB could be had")
    monkeypatch.setattr(banks, "StreamedBank", raising(error))
    expected = (
        r"^the bank needs 8.0 GB of pinned CPU memory, and only 5.1 GB could be had; set deltas.dtype: bf16 "
        r"\(4.0 GB\) or .* or deltas.device: model, or raise the limit on locked memory \(ulimit -l\)$"
    )
    with pytest.raises(AvilError, match=expected):
        make_banks(2, [[10**9]], CODECS["fp32"], GPU, "cpu")


def test_no_room_for_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banks, "StreamedBank", raising(OUT_OF_MEMORY))
    with pytest.raises(AvilError, match="cuda:0 has no room left for the two windows"):
        make_banks(2, [[10**9]], CODECS["fp32"], GPU, "cpu")


@pytest.mark.parametrize("place", ["model", "cpu"])
def test_another_error_is_none_of_these(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Bank", "StreamedBank"):
        monkeypatch.setattr(banks, name, raising(RuntimeError("CUDA error: an illegal memory access")))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        make_banks(2, [[9]], CODECS["fp32"], GPU, place)


@pytest.mark.parametrize("error", [AvilError("no room"), RuntimeError("no driver"), KeyboardInterrupt()])
@pytest.mark.parametrize("which", [0, 1])
def test_training_state_is_unharmed(which: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["transformer"]()
    before = {name: p.detach().clone() for name, p in case.model.named_parameters()}
    settings = EngineSettings(OptimizerConfig(), DeltasConfig(), scale_target_head=True)
    made: list[int] = []

    def fail(n: int, groups: list[list[int]], codec: Codec, device: torch.device, where: str) -> list[DeltaBank]:
        made.append(n)
        if len(made) > which:
            raise error
        return [Bank(n, sizes, codec, device) for sizes in groups]

    monkeypatch.setattr(delta_groups, "make_banks", fail)
    with pytest.raises(type(error)):
        LocalEngine(case.model, case.tasks(), 1, settings)
    assert len(made) == which + 1
    storages = {p.untyped_storage().data_ptr() for p in case.model.parameters()}
    assert len(storages) == len(before)
    for name, parameter in case.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def run(
    case: Case, codec: str, granularity: Granularity
) -> tuple[list[float], list[float], list[list[float]], nn.Module]:
    """Two rounds: the norms, the last α gradient, the gram and the model."""
    settings = EngineSettings(
        OptimizerConfig(), DeltasConfig(dtype=codec), scale_target_head=True, granularity=granularity
    )
    engine = LocalEngine(copy.deepcopy(case.model), case.tasks(), 1, settings)
    for _ in range(2):
        engine.begin_round()
        norms = []
        for task, name in enumerate(case.losses):
            engine.begin_task(task, seed=task)
            for batch in case.train[name]:
                engine.train_step(batch)
            norms.append(engine.end_task().delta_norm)
        engine.apply([0.5] * len(case.losses))
        gradient = over_groups(engine.target_gradient(case.dev)[0])
        gram = engine.gram()
        engine.merge([0.3] * len(case.losses))
    return norms, gradient, gram, engine.model


@pytest.mark.parametrize("granularity", ["model", "layer"])
@pytest.mark.parametrize("codec", CODECS)
def test_a_run_is_the_same_with_a_streamed_bank(
    codec: str, granularity: Granularity, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["convolutional"]()
    resident = run(case, codec, granularity)
    monkeypatch.setattr(banks, "StreamedBank", partial(StreamedBank, window_bytes=1))
    monkeypatch.setattr(
        delta_groups,
        "make_banks",
        lambda n, groups, codec, device, where: banks._streamed(n, groups, codec, device),
    )
    streamed = run(case, codec, granularity)
    for ours, theirs in zip(streamed[:3], resident[:3], strict=True):
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(streamed[3].parameters(), resident[3].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_streamed_banks_take_turns_in_the_largest_buffers_so_far() -> None:
    """So that a model of many layers takes no more room on the device than one of a single group."""
    codec = CODECS["fp32"]
    sizes = [[9 * CHUNK], [5], [9 * CHUNK], [CHUNK], [20 * CHUNK], [20 * CHUNK]]
    first, *others, larger, last = banks._streamed(2, sizes, codec, CPU)
    assert all(bank._buffers[0] is first._buffers[0] for bank in others)
    assert larger._buffers[0] is not first._buffers[0]
    assert last._buffers == larger._buffers
    deltas = [[torch.randn(size) for size in own] for own in sizes]
    for bank, own in zip((first, *others, larger, last), deltas, strict=True):
        for slot in range(2):
            bank.capture_(slot, [(1 + slot) * delta for delta in own], [torch.zeros_like(delta) for delta in own])
    for bank, own in zip((first, *others, larger, last), deltas, strict=True):
        out = [torch.empty_like(delta) for delta in own]
        bank.weighted_sum_(out, [torch.zeros_like(delta) for delta in own], [1.0, -1.0])
        assert all(torch.equal(found, -delta) for found, delta in zip(out, own, strict=True))
