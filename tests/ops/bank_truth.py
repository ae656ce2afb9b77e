"""Random banks and the float64 truth about them, computed without the package's own decoder."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

SIZES = (0, 1, 17, 255, 0, 256, 300, 4099, 9001)
"""Partitions that are multiples of nothing, some empty, one of several tiles."""

CODECS = ("fp32", "bf16", "int8")
TASKS = (1, 2, 3, 4, 5, 8, 13, 64)
EPS = 2.0**-24
"""Half a unit in the last place of fp32: the error of one rounding, relative."""


@dataclass
class RandomBank:
    codes: list[Tensor] = field(default_factory=list)
    scales: list[Tensor] = field(default_factory=list)
    deltas: list[Tensor] = field(default_factory=list)
    """Per partition [n, numel] fp64: what the codes stand for."""


def random_bank(n: int, codec: str, sizes: tuple[int, ...] = SIZES, shift: int = 0) -> RandomBank:
    """`shift` moves every row's start off its alignment, by so many elements."""
    bank = RandomBank()
    for numel in sizes:
        wide = torch.randn(n, numel + 2 * shift)
        if codec == "fp32":
            codes = wide[:, shift : shift + numel]
            delta = codes.double()
        elif codec == "bf16":
            codes = wide.bfloat16()[:, shift : shift + numel]
            delta = codes.double()
        else:
            blocks = (numel + 255) // 256
            codes = torch.randint(-127, 128, wide.shape, dtype=torch.int8)[:, shift : shift + numel]
            scales = torch.rand(n, blocks) / 127
            of_block = torch.arange(numel) // 256
            delta = codes.double() * scales.double()[:, of_block]
            bank.scales.append(scales)
        bank.codes.append(codes)
        bank.deltas.append(delta)
    return bank


def random_flats(
    sizes: tuple[int, ...] = SIZES, shift: int = 0, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    return [torch.randn(numel + shift).to(dtype)[shift:] for numel in sizes]


def poisoned(sizes: tuple[int, ...] = SIZES, shift: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Memory that shows in the result if it is read, or left unwritten."""
    return [torch.full((numel + shift,), float("nan"), dtype=dtype)[shift:] for numel in sizes]


def assert_close(result: Tensor, truth: Tensor, magnitude: Tensor, roundings: int) -> None:
    """|result − truth| ≤ roundings · ε · magnitude, where magnitude bounds every term on the way."""
    error = (result.double() - truth).abs()
    allowed = roundings * EPS * magnitude
    worst = (error / allowed.clamp_min(1e-300)).max() if error.numel() else 0.0
    assert torch.all(error <= allowed), f"error is {float(worst):.2f} times what is allowed"


def assert_same_bits(a: Tensor, b: Tensor) -> None:
    """Equal bit for bit, but any NaN is as good as any other."""
    assert a.dtype == b.dtype
    if a.is_floating_point():
        assert torch.equal(a.isnan(), b.isnan())
        integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
        a, b = a.nan_to_num(0.0).view(integer), b.nan_to_num(0.0).view(integer)
    assert torch.equal(a, b)
