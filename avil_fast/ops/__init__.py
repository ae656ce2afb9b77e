"""The four hot operations on deltas, each with a torch reference in the file of its name.

A bank is passed as two lists with one entry per partition: `codes` [n, numel], a row per task, and
`scales` [n, ceil(numel / 256)] for int8 and e4m3 codes (an empty list otherwise). All partitions of a rank are
handled in one call.
"""

from avil_fast.ops.capture import capture_
from avil_fast.ops.delta_dots import delta_dots
from avil_fast.ops.delta_gram import delta_gram
from avil_fast.ops.weighted_sum import weighted_sum_

__all__ = ["capture_", "delta_dots", "delta_gram", "weighted_sum_"]
