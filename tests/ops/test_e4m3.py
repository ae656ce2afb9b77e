"""Every e4m3 code, and every rounding between two of them, against the format's definition."""

import torch
from bank_truth import e4m3_values, poisoned
from torch import Tensor

from avil_fast import ops

VALUES = e4m3_values()[:127]
"""Those that are not negative; the code is the index."""


def _nearest(x: Tensor) -> Tensor:
    """The code of each x within ±448, halfway to the even one of two."""
    values = VALUES.to(x.device)
    magnitude = x.double().abs()
    above = torch.searchsorted(values, magnitude).clamp(1, 126)
    to_above, to_below = values[above] - magnitude, magnitude - values[above - 1]
    up = (to_above < to_below) | ((to_above == to_below) & (above % 2 == 0))
    return torch.where(up, above, above - 1) + 128 * x.signbit()


def _captured(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Codes as integers and scales of one row that holds `delta`."""
    codes = torch.zeros(1, delta.numel(), dtype=torch.float8_e4m3fn)
    scales = poisoned((-(-delta.numel() // 256),))[0].unsqueeze(0)
    ops.capture_([codes], [scales], 0, [delta.clone()], [torch.zeros_like(delta)])
    return codes[0].view(torch.uint8).long(), scales[0]


def test_every_code_is_decoded(backend: str) -> None:
    values = e4m3_values()
    bits = torch.arange(256).to(torch.uint8)
    bits[values.isnan()] = 0  # never stored
    out, codes = poisoned((256,)), bits.view(torch.float8_e4m3fn).unsqueeze(0)
    ops.weighted_sum_(out, [torch.zeros(256)], [codes], [torch.ones(1, 1)], torch.ones(1))
    assert torch.equal(out[0].double(), values.nan_to_num(0.0))


def test_every_rounding(backend: str) -> None:
    """All values, halfway between neighbours, and the fp32 numbers next to either, of both signs."""
    values = VALUES.to(torch.get_default_device()).float()
    exact = torch.cat([values, (values[1:] + values[:-1]) / 2, torch.tensor([2.0**-149, 2.0**-126, 2.0**-11])])
    beside = [torch.nextafter(exact, torch.tensor(to)) for to in (-1e9, 1e9)]
    delta = torch.cat([exact, *beside])
    delta = torch.cat([delta, -delta])
    delta = delta[delta.abs() <= 448]
    delta = torch.cat([delta, delta.new_zeros(-delta.numel() % 255)]).view(-1, 255)
    delta = torch.cat([delta, torch.full((len(delta), 1), 448.0)], dim=1).view(-1)  # every scale is 1
    codes, scales = _captured(delta)
    assert torch.all(scales == 1)
    assert torch.equal(codes, _nearest(delta))


def test_quotients_beyond_the_largest_code_are_clamped(backend: str) -> None:
    """A subnormal scale is rounded: 650 of the smallest numbers over 448 is 1 of them, and the quotient 650."""
    delta = torch.tensor([650.0, -650.0, 600.0, 449.0, 3.0]) * 2.0**-149
    codes, scales = _captured(delta)
    assert scales.tolist() == [2.0**-149]
    assert codes.tolist() == [0x7E, 0xFE, 0x7E, 0x7E, 0x44]
