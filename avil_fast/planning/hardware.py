"""What a GPU can do, as its maker gives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A GPU; rates are per second."""

    name: str
    memory: float
    """Bytes of its memory."""
    bandwidth: float
    """Bytes to or from its memory."""
    flops: float
    """Multiplications and additions (FLOP) in bf16."""
    flops_fp32: float
    """The same in fp32."""
    nvlink: float
    """Bytes to the other GPUs of its machine, one way."""
    network: float
    """Bytes to other machines, one way: its share of their adapters."""
    pcie: float = 55e9
    """Bytes to or from the CPU's memory."""


GPUS = {
    "a100": Gpu("A100", 80e9, 2.04e12, 312e12, 19.5e12, 300e9, 25e9, 25e9),
    "h100": Gpu("H100", 80e9, 3.35e12, 989e12, 67e12, 450e9, 50e9),
    "h200": Gpu("H200", 141e9, 4.8e12, 989e12, 67e12, 450e9, 50e9),
}

PER_MACHINE = 8
"""GPUs per machine."""

MFU = 0.4
"""Fraction of peak FLOP/s that the training of a large model reaches (model FLOPs utilisation)."""
