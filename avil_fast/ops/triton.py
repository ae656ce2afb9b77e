"""The operations on a CUDA device, as Triton kernels; on the CPU where Triton interprets.

`TRITON_INTERPRET=1` must be set before this module is first imported.
"""

from __future__ import annotations

from triton import knobs

from avil_fast.kernels.capture import capture_
from avil_fast.kernels.configs import ELEMENTS
from avil_fast.kernels.delta_dots import delta_dots
from avil_fast.kernels.delta_gram import delta_gram
from avil_fast.kernels.weighted_sum import weighted_sum_

DEVICES = frozenset({"cpu" if knobs.runtime.interpret else "cuda"})
DTYPES = frozenset(ELEMENTS)

__all__ = ["DEVICES", "DTYPES", "capture_", "delta_dots", "delta_gram", "weighted_sum_"]
