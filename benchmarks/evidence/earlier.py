"""New runs of some methods beside the results that are there of the others."""

from __future__ import annotations

import math
from typing import Any

from avil_fast.comparing.statistics import standings


def beside(earlier: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """`new`, and of `earlier` what methods it has besides; each is held against the best of all of them.

    Both are `Comparison.as_json`. Where target, measure or seeds differ, `new` stands alone.
    """
    same = ("target", "measure", "seeds")
    if earlier is None or any(earlier[key] != new[key] for key in same):
        return new
    methods = {**earlier["methods"], **new["methods"]}
    if len(methods) == 1:
        return new
    values = {
        name: [math.nan if value is None else value for value in own["values"]] for name, own in methods.items()
    }
    standing = standings(values, new["measure"]["lower_is_better"])
    return new | {"methods": {name: own | standing[name].as_json() for name, own in methods.items()}}
