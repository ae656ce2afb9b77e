"""The layers of a model, told from the names of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MODEL = "model"
"""The only group, where layers have no coefficients of their own; else what lies in no module but the model."""

Path = tuple[str, ...]


def layers(names: Sequence[str]) -> list[str]:
    """The layer of every parameter.

    A layer is a module with a number, the outermost one above a parameter: `model.layers.3` for
    `model.layers.3.self_attn.q_proj.weight`. Where there is none, it is the module in which the name parts from
    those of the numbered ones: `model.norm`, `bert.embeddings`, `lm_head`. So no module's own are divided.

    >>> layers(["bert.embeddings.word.weight", "bert.layer.0.output.bias", "bert.pooler.weight", "scale"])
    ['bert.embeddings', 'bert.layer.0', 'bert.pooler', 'model']
    """
    modules: list[Path] = [tuple(name.split(".")[:-1]) for name in names]
    numbered = {module[: _number(module)] for module in modules if _number(module) < len(module)}
    return [".".join(module[: _depth(module, numbered) + 1]) or MODEL for module in modules]


def _depth(module: Path, numbered: Iterable[Path]) -> int:
    """Where the number stands, or as many parts as the module shares with a place where numbers stand."""
    place = _number(module)
    if place < len(module):
        return place
    return max((_in_common(module, other) for other in numbered), default=0)


def _number(module: Path) -> int:
    """Index of the first part that is a number; behind the last if none is."""
    return next((i for i, part in enumerate(module) if part.isdecimal()), len(module))


def _in_common(one: Path, other: Path) -> int:
    same = (a == b for a, b in zip(one, other, strict=False))
    return next((i for i, equal in enumerate(same) if not equal), min(len(one), len(other)))
