"""Registration of an operation with torch: its schema, its function, its shapes.

`torch.library.custom_op` would do in one line, but its first call imports the compiler, which takes most
of a second, and every call costs more.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

_LIBRARY = torch.library.Library("avil_fast", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch's own


def register(
    name: str, function: Callable[..., Any], shapes: Callable[..., Any], mutates: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Make `function` the operation torch.ops.avil_fast.`name` and return that.

    Args:
        name: the operation's name.
        function: checks its arguments and does the work; its annotations give the schema.
        shapes: returns an empty tensor like the result, for tracing.
        mutates: names of the arguments that are written.
    """
    # torch looks names of types up where a function was written: in the one within, if it is wrapped.
    schema = name + torch.library.infer_schema(inspect.unwrap(function), mutates_args=mutates)
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]  # torch's own
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]  # torch's own
    torch.library.register_fake(f"avil_fast::{name}", shapes, lib=_LIBRARY)
    operation: Callable[..., Any] = getattr(torch.ops.avil_fast, name).default
    return operation
