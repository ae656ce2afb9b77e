"""Measurements: `python -m benchmarks.kernels`, `python -m benchmarks.evidence`, `pytest --benchmark`."""

import importlib.util
import sys

if importlib.util.find_spec("avil_fast.kernels") is None:
    # A checkout that is not installed, as on a machine lent for its GPU: kernels/ lies beside avil_fast/.
    import kernels

    sys.modules["avil_fast.kernels"] = kernels
