"""Names that come out of a file, which somebody else may have written."""


def is_plain(name: object) -> bool:
    """Whether a name is that of a file beside the one that holds it, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name)
