"""A run from its start to its end: checked, stored, trained, resumed, reported."""
