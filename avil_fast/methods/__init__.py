"""Training methods, one per file."""

from avil_fast.method_registry import METHODS, find

__all__ = ["METHODS", "find"]
