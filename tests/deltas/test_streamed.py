"""The streamed bank is the resident one, whatever the windows: on the CPU, and with pinned memory on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from avil_fast import ops
from avil_fast.deltas import streamed
from avil_fast.deltas.bank import Bank
from avil_fast.deltas.codec import CODECS, FP64, Codec
from avil_fast.deltas.streamed import HostMemoryError, StreamedBank
from avil_fast.ops.encoding import BLOCK, CHUNK, blocks

MIXED = (0, 7, 3 * CHUNK + 123, 1, 0, CHUNK, 300, 2 * CHUNK - 1)
CASES = {
    "mixed": (3, MIXED),
    "one delta": (1, MIXED),
    "64 deltas": (64, (0, 7, CHUNK + 77)),
    "tiny": (2, tuple(i % 40 for i in range(2000))),
    "empty": (2, (0, 0)),
}
WINDOWS = {"one chunk": 1, "odd": 3 * 150_001, "whole": 1 << 30}

codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
cases = pytest.mark.parametrize(("n", "sizes"), CASES.values(), ids=CASES)
window_sizes = pytest.mark.parametrize("window_bytes", WINDOWS.values(), ids=WINDOWS)


def same_bits(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(
        torch.equal(x.contiguous().view(torch.uint8), y.contiguous().view(torch.uint8))
        for x, y in zip(a, b, strict=True)
    )


class Pair:
    """A resident and a streamed bank that captured the same deltas, and the flat tensors beside them."""

    def __init__(
        self, n: int, sizes: tuple[int, ...], codec: Codec, device: torch.device, window_bytes: int
    ) -> None:
        torch.manual_seed(0)
        self.n, self.sizes, self.codec = n, sizes, codec
        self.base = [torch.randn(size, device=device) for size in sizes]
        self.resident = Bank(n, sizes, codec, device)
        self.streamed = StreamedBank(n, sizes, codec, device, window_bytes)
        for slot in range(n):
            theta = [b + 1e-3 * torch.randn_like(b) for b in self.base]
            made = [self.capture(bank, slot, theta) for bank in (self.resident, self.streamed)]
            assert made[0][0] == pytest.approx(made[1][0], rel=1e-12)
            assert same_bits(made[0][1], self.base)
            assert same_bits(made[1][1], self.base)
            assert same_bits(made[0][2], made[1][2])

    def capture(self, bank: Any, slot: int, theta: list[Tensor]) -> tuple[float, list[Tensor], list[Tensor]]:
        """The norm, and what was written to θ and to its low-precision copies."""
        ours = [t.clone() for t in theta]
        low = [t.bfloat16() for t in theta]
        return bank.capture_(slot, ours, self.base, low), ours, low

    def empty(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        return [torch.full_like(b, float("nan"), dtype=dtype) for b in self.base]

    def sums(self, bank: Any, alpha: list[float]) -> tuple[list[Tensor], list[Tensor]]:
        out, low = self.empty(), self.empty(torch.bfloat16)
        bank.weighted_sum_(out, self.base, alpha, low)
        return out, low


@codecs
@cases
@window_sizes
def test_it_is_the_resident_bank(
    n: int, sizes: tuple[int, ...], codec: Codec, window_bytes: int, device: torch.device
) -> None:
    pair = Pair(n, sizes, codec, device, window_bytes)
    alpha = torch.randn(n).tolist()
    for _ in range(2):
        ours, theirs = pair.sums(pair.streamed, alpha), pair.sums(pair.resident, alpha)
        assert same_bits(ours[0], theirs[0])
        assert same_bits(ours[1], theirs[1])
        grad = [torch.randn_like(b) for b in pair.base]
        gram = torch.tensor(pair.resident.gram(), dtype=torch.float64)
        length = gram.diagonal().sqrt()
        grad_length = float(sum(g.double().square().sum() for g in grad)) ** 0.5
        dots = [torch.tensor(bank.dots(grad), dtype=torch.float64) for bank in (pair.streamed, pair.resident)]
        assert torch.all((dots[0] - dots[1]).abs() <= 1e-12 * grad_length * length)
        streamed_gram = torch.tensor(pair.streamed.gram(), dtype=torch.float64)
        assert torch.all((streamed_gram - gram).abs() <= 1e-12 * length.outer(length))
    assert pair.streamed.dots(grad) == pair.streamed.dots(grad)


@codecs
@window_sizes
def test_codes_and_scales_are_those_of_the_resident_bank(
    codec: Codec, window_bytes: int, device: torch.device
) -> None:
    pair = Pair(3, MIXED, codec, device, window_bytes)
    for rows, window in zip(pair.streamed._host, pair.streamed._windows, strict=True):
        assert rows.is_contiguous()
        assert rows.is_pinned() is (device.type == "cuda")
        codes, scales = streamed._views(rows, window, codec)
        for i, piece in enumerate(window.pieces):
            resident = pair.resident.codes[piece.partition][:, piece.start : piece.stop]
            assert same_bits([codes[i]], [resident.cpu()])
            if codec.scaled:
                span = slice(piece.start // BLOCK, blocks(piece.stop))
                assert same_bits([scales[i]], [pair.resident.scales[piece.partition][:, span].cpu()])


@codecs
@window_sizes
def test_the_pieces_of_a_row_are_the_resident_row(codec: Codec, window_bytes: int) -> None:
    """As a checkpoint writes them: one after the other, with the scales of their blocks."""
    pair = Pair(3, MIXED, codec, torch.device("cpu"), window_bytes)
    expected = {stored.partition: stored for stored in pair.resident.row(1)}
    pieces: dict[int, list[Any]] = {partition: [] for partition in expected}
    for stored in pair.streamed.row(1):
        assert stored.start == sum(piece.values.numel() for piece in pieces[stored.partition])
        pieces[stored.partition].append(stored)
    for partition, found in pieces.items():
        if not found:  # it has no elements
            assert expected[partition].values.numel() == 0
            continue
        assert same_bits([torch.cat([piece.values for piece in found])], [expected[partition].values])
        if codec.scaled:
            assert same_bits([torch.cat([piece.scales for piece in found])], [expected[partition].scales])
        else:
            assert [piece.scales for piece in found] == [None] * len(found)


def test_a_bank_uses_the_buffers_of_one_beside_it_if_they_are_large_enough() -> None:
    def bank(numel: int, beside: StreamedBank | None = None) -> StreamedBank:
        return StreamedBank(2, [numel], CODECS["fp32"], torch.device("cpu"), 8 * CHUNK, beside)

    large = bank(3 * CHUNK)
    assert bank(2 * CHUNK, large)._buffers == large._buffers
    assert bank(9, large)._buffers == large._buffers[:1]
    small = bank(9)
    assert bank(9, small)._buffers == small._buffers
    assert not set(map(id, bank(3 * CHUNK, small)._buffers)) & set(map(id, small._buffers))


@codecs
def test_a_row_is_captured_alone(codec: Codec, device: torch.device) -> None:
    pair = Pair(4, MIXED, codec, device, 1)
    theta = [b + torch.randn_like(b) for b in pair.base]
    before = [rows.clone() for rows in pair.streamed._host]
    pair.capture(pair.streamed, 2, theta)
    for old, new in zip(before, pair.streamed._host, strict=True):
        assert torch.equal(old[[0, 1, 3]], new[[0, 1, 3]])
        assert not torch.equal(old[2], new[2])


@pytest.mark.parametrize("sizes", [(200_000, 7), (6,) * 300])
@codecs
def test_bytes_are_those_of_the_resident_bank(codec: Codec, sizes: tuple[int, ...]) -> None:
    cpu = torch.device("cpu")
    held = StreamedBank(8, sizes, codec, cpu, 1 << 20).nbytes
    assert held <= Bank(8, sizes, codec, cpu).nbytes + 64 * 8 * 8
    assert held >= 8 * codec.bytes_per_element * sum(sizes)


def test_the_device_holds_two_windows() -> None:
    bank = StreamedBank(4, (40 * CHUNK,), CODECS["fp32"], torch.device("cpu"), 4 * 4 * CHUNK * 3)
    assert len(bank._windows) == 14
    assert [buffer.bytes.numel() for buffer in bank._buffers] == [4 * 4 * CHUNK * 3] * 2
    assert len(StreamedBank(4, (40,), CODECS["fp32"], torch.device("cpu"))._buffers) == 1


def test_masters_in_fp64() -> None:
    base = [torch.randn(CHUNK + 9, dtype=torch.float64)]
    bank = StreamedBank(1, [CHUNK + 9], FP64, torch.device("cpu"), 1)
    delta = torch.randn_like(base[0])
    bank.capture_(0, [base[0] + delta], base)
    out = [torch.empty_like(base[0])]
    bank.weighted_sum_(out, base, [1.0])
    torch.testing.assert_close(out[0], base[0] + delta, rtol=1e-12, atol=1e-12)


def test_what_was_not_captured_is_missed() -> None:
    bank = StreamedBank(2, [9], CODECS["fp32"], torch.device("cpu"))
    base = [torch.zeros(9)]
    bank.capture_(1, [torch.ones(9)], base)
    with pytest.raises(RuntimeError, match=r"tasks \[0\] were not captured"):
        bank.gram()
    bank.clear()
    with pytest.raises(RuntimeError, match=r"tasks \[0, 1\] were not captured"):
        bank.dots(base)


LATER: dict[str, tuple[Callable[[list[Tensor]], object], str]] = {
    "a short tensor": (
        lambda t: t.__setitem__(1, torch.zeros(5)),
        r"\[1\].shape is \(5,\), but must be \(65543,\)",
    ),
    "another dtype": (lambda t: t.__setitem__(1, t[1].double()), r"\[1\].dtype is torch.float64"),
    "a missing tensor": (lambda t: t.pop(), "is a list of 1, but must be one tensor per partition, 2"),
}


@pytest.mark.parametrize(("spoil", "message"), LATER.values(), ids=LATER)
@pytest.mark.parametrize("operation", ["capture_", "weighted_sum_", "dots"])
def test_a_wrong_tensor_of_a_late_window_is_found_before_anything_is_written(
    operation: str, spoil: Callable[[list[Tensor]], object], message: str
) -> None:
    sizes = (CHUNK, 2 * CHUNK + 7)
    pair = Pair(2, sizes, CODECS["fp32"], torch.device("cpu"), 1)
    host = [rows.clone() for rows in pair.streamed._host]
    wrong = pair.empty()
    spoil(wrong)
    first = wrong[0].clone()
    named = {"capture_": "theta", "weighted_sum_": "out", "dots": "grad"}[operation]
    calls = {
        "capture_": lambda: pair.streamed.capture_(0, wrong, pair.base),
        "weighted_sum_": lambda: pair.streamed.weighted_sum_(wrong, pair.base, [1.0, 1.0]),
        "dots": lambda: pair.streamed.dots(wrong),
    }
    with pytest.raises(ValueError, match=f"^{named}.*{message}"):
        calls[operation]()
    assert same_bits(wrong[:1], [first])
    assert same_bits(pair.streamed._host, host)


def test_windows_apart_must_not_share_memory_either() -> None:
    pair = Pair(2, (CHUNK, CHUNK), CODECS["fp32"], torch.device("cpu"), 1)
    written, base = [pair.base[1].clone(), pair.base[0]], pair.base
    with pytest.raises(ValueError, match=r"theta\[1\] .* overlaps base\[0\] .* must not share memory"):
        pair.streamed.capture_(0, written, base)
    with pytest.raises(ValueError, match=r"out\[1\] .* overlaps base\[0\] .* must not share memory"):
        pair.streamed.weighted_sum_(written, base, [1.0, 1.0])


def test_the_sum_may_replace_the_base() -> None:
    pair = Pair(2, MIXED, CODECS["fp32"], torch.device("cpu"), 1)
    expected, _ = pair.sums(pair.resident, [0.5, 2.0])
    pair.streamed.weighted_sum_(pair.base, pair.base, [0.5, 2.0])
    assert same_bits(pair.base, expected)


def test_memory_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real, had = torch.empty, 0

    def three_windows(*size: int, **kwargs: Any) -> Tensor:
        nonlocal had
        if "pin_memory" in kwargs:
            had += 1
            if had > 3:
                raise RuntimeError("CUDA error: out of memory")
        return real(*size, **kwargs)

    monkeypatch.setattr(torch, "empty", three_windows)
    with pytest.raises(HostMemoryError, match=r"needs 0\.5 GB of CPU memory, and only 0\.4 GB could be had"):
        StreamedBank(1, [4 * 1000 * CHUNK], CODECS["fp32"], torch.device("cpu"), 4000 * CHUNK)


@pytest.mark.slow
@pytest.mark.skipif(
    torch.cuda.is_available() or find_spec("triton") is None or find_spec("numpy") is None,
    reason="needs Triton's interpreter",
)
def test_the_kernels_tables_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More windows than a cache of some entries would hold: later rounds find all that the first one made."""
    from avil_fast.kernels.tables import cache

    monkeypatch.setenv("AVIL_BACKEND", "triton")
    monkeypatch.setattr("avil_fast.deltas.windows.CHUNK", BLOCK)  # the interpreter is slow
    windows = 70
    sizes = (windows * BLOCK,)
    bank = StreamedBank(1, sizes, CODECS["int8"], torch.device("cpu"), 1)
    base, theta, grad = [torch.zeros(sizes)], [torch.ones(sizes)], [torch.ones(sizes)]
    cache.clear()
    misses = []
    for _ in range(2):
        bank.capture_(0, theta, base)
        bank.weighted_sum_(theta, base, [1.0])
        bank.dots(grad)
        bank.gram()
        misses.append(cache.misses)
    # capture_ and weighted_sum_ of the same θ and base share theirs; gram reads nothing but the staging buffers.
    assert misses == [2 * windows + 2] * 2
    cache.clear()


def delayed(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Late on the device by some milliseconds."""

    def run(*arguments: Any) -> Any:
        torch.cuda._sleep(10_000_000)
        return operation(*arguments)

    return run


@pytest.mark.gpu
@pytest.mark.parametrize("late", ["computation", "copies"])
def test_neither_stream_overtakes_the_other(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window is not overwritten before it was computed on, nor computed on before it is whole."""
    pair = Pair(2, (12 * CHUNK + 5,), CODECS["bf16"], torch.device("cuda"), 1)
    expected, _ = pair.sums(pair.resident, [0.5, 2.0])
    for buffer in pair.streamed._buffers:
        buffer.bytes.fill_(0xFF)  # NaN
    torch.cuda.synchronize()
    if late == "computation":
        for name in ("weighted_sum_", "capture_"):
            monkeypatch.setattr(ops, name, delayed(getattr(ops, name)))
    else:
        fill = pair.streamed._fill

        def late_fill(k: int) -> None:
            with torch.cuda.stream(pair.streamed._copies):
                torch.cuda._sleep(10_000_000)
            fill(k)

        monkeypatch.setattr(pair.streamed, "_fill", late_fill)
    assert same_bits(pair.sums(pair.streamed, [0.5, 2.0])[0], expected)
    theta = [b + 1e-3 * torch.randn_like(b) for b in pair.base]
    pair.capture(pair.resident, 0, theta)
    pair.capture(pair.streamed, 0, theta)
    expected, _ = pair.sums(pair.resident, [0.5, 2.0])
    assert same_bits(pair.sums(pair.streamed, [0.5, 2.0])[0], expected)


@pytest.mark.gpu
def test_on_the_device_there_are_the_staging_buffers_alone() -> None:
    before = torch.cuda.memory_allocated()
    bank = StreamedBank(8, (64 * CHUNK,), CODECS["fp32"], torch.device("cuda"), 8 * 4 * CHUNK)
    assert bank.nbytes == 8 * 64 * 4 * CHUNK
    assert torch.cuda.memory_allocated() - before <= 2 * 8 * 4 * CHUNK + 4096
