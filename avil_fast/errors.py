"""Errors that are told in one sentence."""


class AvilError(ValueError):
    """Bad input: a setting, a dataset, a model or a file. Says what, where, the value, and what to do.

    The commands print it and exit with code 2.
    """


class RankLost(RuntimeError):
    """Another rank of the run has ended, and this one cannot go on."""
