"""Codecs: in which form a bank stores a delta, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avil_fast.ops.encoding import BLOCK, blocks

LINE, PAGE, ROW_START = 64, 4096, 320
"""Bytes: each large row of a bank starts ROW_START further into its page than the one before, for less than 1 % of
memory. Rows that all start at the same place of a page, as those of a power of two of elements would, fall on the
same lines of a cache and drive one another out: `weighted_sum_` with 8 took 1.3 times as long on Zen 4.
"""


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Codec:
    """One way to store a delta.

    Relative error of the α gradient on deltas of the digits and of a small transformer, at most: bf16 5e-4,
    int8 1.4e-3, fp8 6e-3 (tests/deltas/test_codec.py). int8's steps are even; fp8's are finer only for elements
    under a fourteenth of their block's largest. The master parameters stay fp32 with every codec.
    """

    name: str
    dtype: torch.dtype
    scaled: bool
    """One fp32 scale per block of 256 elements."""

    @property
    def bytes_per_element(self) -> float:
        """e in the memory formula n·e·N: the codes and their share of a scale."""
        return self.dtype.itemsize + (4 / BLOCK if self.scaled else 0)

    def allocate(self, n: int, numel: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Codes [n, numel] and scales [n, ceil(numel / 256)] or None; rows start 64-byte aligned."""
        nbytes = _round_up(numel * self.dtype.itemsize, LINE)
        if nbytes > 100 * PAGE:
            nbytes += (ROW_START - nbytes) % PAGE
        codes = torch.zeros(n, nbytes // self.dtype.itemsize, dtype=self.dtype, device=device)[:, :numel]
        if not self.scaled:
            return codes, None
        return codes, torch.zeros(n, blocks(numel), dtype=torch.float32, device=device)


CODECS = {
    codec.name: codec
    for codec in (
        Codec("fp32", torch.float32, scaled=False),
        Codec("bf16", torch.bfloat16, scaled=False),
        Codec("int8", torch.int8, scaled=True),
        Codec("fp8", torch.float8_e4m3fn, scaled=True),
    )
}

# The exact codec for masters in fp64: what tests against autograd use. Not a setting of a run.
FP64 = Codec("fp64", torch.float64, scaled=False)
