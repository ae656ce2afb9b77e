"""Measurements: `python -m benchmarks.kernels`, `python -m benchmarks.digits`, `pytest --benchmark`."""
