"""Random banks and the float64 truth about them, computed without the package's own decoder."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

SIZES = (0, 1, 17, 255, 0, 256, 300, 4099, 9001)
"""Partitions that are multiples of nothing, some empty, one of several tiles."""

CODECS = ("fp32", "bf16", "int8", "fp8")
SCALED = ("int8", "fp8")
TASKS = (1, 2, 3, 4, 5, 8, 13, 64)
EPS = 2.0**-24
"""Half a unit in the last place of fp32: the error of one rounding, relative."""


def e4m3_values() -> Tensor:
    """[256] fp64: what each code stands for, by the format's definition; NaN for 0x7F and 0xFF."""
    code = torch.arange(256)
    exponent, mantissa = (code >> 3) & 0xF, (code & 7).double()
    magnitude = torch.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    magnitude[code & 0x7F == 0x7F] = float("nan")
    return torch.where(code < 128, magnitude, -magnitude)


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
            if codec == "int8":
                codes = torch.randint(-127, 128, wide.shape, dtype=torch.int8)[:, shift : shift + numel]
                values, largest = codes.double(), 127
            else:
                bits = (torch.randint(127, wide.shape) + 128 * torch.randint(2, wide.shape)).to(torch.uint8)
                codes = bits.view(torch.float8_e4m3fn)[:, shift : shift + numel]
                values, largest = e4m3_values()[bits.long()][:, shift : shift + numel], 448
            scales = torch.rand(n, blocks) / largest
            of_block = torch.arange(numel) // 256
            delta = values * scales.double()[:, of_block]
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
    if a.dtype == torch.float8_e4m3fn:  # of which no NaN is ever stored
        a, b = a.view(torch.uint8), b.view(torch.uint8)
    if a.is_floating_point():
        assert torch.equal(a.isnan(), b.isnan())
        integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
        a, b = a.nan_to_num(0.0).view(integer), b.nan_to_num(0.0).view(integer)
    assert torch.equal(a, b)
