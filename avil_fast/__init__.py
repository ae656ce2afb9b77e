"""αVIL on large models."""
