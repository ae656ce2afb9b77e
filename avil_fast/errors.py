"""The error that a user can mend: one sentence that says what, where, the value, and what to do."""


class AvilError(ValueError):
    """Bad input: a setting, a dataset, a model or a file. The commands print it and exit with code 2."""
