"""Settings drawn from a JSON schema: as it says, or with something in them that nobody would expect."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from hypothesis import strategies as st

Drawn = st.SearchStrategy[Any]
Schema = Mapping[str, Any]

TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(), max_size=4),  # with halves of surrogate pairs, which no encoding has
    st.sampled_from(
        ["", " ", "a", "a.b", "a/b", "..", "../..", "/", "\0", "a\nb", "\x1b[2J", "\ufeff", "x" * 5000]
    ),
    st.sampled_from(["auto", "null", "off", "hub:", "{", "{text}", "{0}", "{a!x}", "{a.b}", "${HOME}", "x" * 300]),
)
NUMBERS = st.one_of(
    st.integers(-2, 40),
    st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63)]),
    st.sampled_from([400, 5000]).map(lambda digits: 10**digits),  # the latter more than Python writes out
    st.floats(),
    st.sampled_from([0.0, -0.0, 5e-324, 1e-300, 1e300, 0.1, 1.5]),
)
ODD: Drawn = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.binary(max_size=4), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(TEXTS, inner, max_size=3),
        st.dictionaries(st.one_of(st.integers(), st.none(), st.booleans()), inner, max_size=2),
    ),
    max_leaves=5,
)
"""Of any type that YAML has."""

TASKS = st.one_of(st.sampled_from(["a", "upper_left", "source", "größe", "a.b", "", "name", "train"]), TEXTS)


class Settings:
    """Strategies for the parts of a schema.

    Args:
        schema: with its `$defs`.
        odd: one value in some is of any type, a key misspelled, or one that must be there is not.
    """

    def __init__(self, schema: Schema, odd: bool) -> None:
        self._schema, self._odd = schema, odd
        self._of_def = cache(lambda name: self._of(schema["$defs"][name]))

    def drawn(self) -> Drawn:
        """All settings of a run."""
        return self._objects(self._schema)

    def _of(self, schema: Schema) -> Drawn:
        plain = self._as_it_says(schema)
        return st.one_of(*[plain] * 14, ODD) if self._odd else plain

    def _as_it_says(self, schema: Schema) -> Drawn:
        match schema:
            case {"$ref": name}:
                return st.deferred(lambda: self._of_def(name.rpartition("/")[2]))
            case {"anyOf": some} | {"oneOf": some}:
                return st.one_of([self._of(one) for one in some])
            case {"const": value}:
                return st.just(value)
            case {"enum": values}:
                return st.sampled_from(values)
            case {"type": "integer"}:
                return _integers(schema)
            case {"type": "number"}:
                return _floats(schema)
            case {"type": "boolean"}:
                return st.booleans()
            case {"type": "null"}:
                return st.none()
            case {"type": "string"}:
                return TEXTS
            case {"type": "array", "prefixItems": items} if not self._odd:
                return st.tuples(*map(self._of, items)).map(list)
            case {"type": "array"}:
                return st.lists(self._of(schema.get("items") or schema["prefixItems"][0]), max_size=3)
            case {"type": "object"}:
                return self._objects(schema)
        return ODD

    def _objects(self, schema: Schema) -> Drawn:
        known = {name: self._of(one) for name, one in schema.get("properties", {}).items()}
        more = schema.get("additionalProperties")
        others = self._of(more) if isinstance(more, Mapping) else None
        names = st.lists(st.sampled_from(sorted(known)), max_size=5, unique=True) if known else st.just([])

        @st.composite
        def drawn(draw: st.DrawFn) -> dict[Any, Any]:
            chosen = [*draw(names), *([] if self._odd else schema.get("required", ()))]
            found = {name: draw(known[name]) for name in chosen}
            if others is not None:
                found |= draw(st.dictionaries(TASKS, others, min_size=0 if self._odd else 1, max_size=2))
            if self._odd and draw(st.integers(0, 9)) == 0:
                found[draw(TEXTS) if not known else draw(st.sampled_from(sorted(known))) + "s"] = draw(ODD)
            return found

        return drawn()


def _integers(schema: Schema) -> Drawn:
    low, step = schema.get("minimum", schema.get("exclusiveMinimum", -2)), schema.get("multipleOf", 1)
    huge = [n for n in (64, 2**31, 2**62, 10**30) if low <= n < schema.get("exclusiveMaximum", n + 1)]
    return st.integers(low, low + 9).map(lambda n: low + step * (n - low)) | st.sampled_from(huge)


def _floats(schema: Schema) -> Drawn:
    ends = {"min": "inimum", "max": "aximum"}
    bounds = {
        f"{end}_value": schema.get(f"exclusiveM{name}", schema.get(f"m{name}")) for end, name in ends.items()
    }
    exclude = {f"exclude_{end}": f"exclusiveM{name}" in schema for end, name in ends.items()}
    return st.floats(allow_nan=False, allow_infinity=False, **bounds, **exclude)
