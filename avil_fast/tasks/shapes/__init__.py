"""A run's model as numbers, before it is loaded."""
