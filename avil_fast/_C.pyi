"""The C++ extension: kernels for the CPU, and the delta ledger. Sources: csrc/."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK: int
MAX_TASKS: int

class Codec:
    fp32: Codec
    bf16: Codec
    int8: Codec
    fp8: Codec

class Low:
    none: Low
    bf16: Low
    fp16: Low

class Bank:
    def __init__(
        self,
        tasks: int,
        codec: Codec,
        numels: Sequence[int],
        codes: Sequence[int],
        code_strides: Sequence[int],
        scales: Sequence[int],
        scale_strides: Sequence[int],
    ) -> None: ...

def lose_openmp() -> None: ...
def isa() -> str: ...
def weighted_sum(
    bank: Bank,
    out: Sequence[int],
    base: Sequence[int],
    alpha: Sequence[float],
    low_type: Low,
    low: Sequence[int],
    threads: int,
) -> None: ...
def delta_dots(bank: Bank, grad_is_bf16: bool, grad: Sequence[int], totals: int, threads: int) -> None: ...
def capture(
    bank: Bank,
    slot: int,
    theta: Sequence[int],
    base: Sequence[int],
    low_type: Low,
    low: Sequence[int],
    threads: int,
) -> float: ...
def delta_gram(bank: Bank, gram: int, threads: int) -> None: ...

class Ledger:
    @staticmethod
    def from_slices(
        numels: Sequence[int], sizes: Sequence[Sequence[int]], slices: NDArray[np.int64]
    ) -> Ledger: ...

def copy_plan(source: Ledger, destination: Ledger, rank: int) -> NDArray[np.int64]: ...
