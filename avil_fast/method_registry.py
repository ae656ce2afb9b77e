"""Which training methods there are, by name. To add one: its file in `methods`, and its line here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avil_fast.methods.base import Method

METHODS: dict[str, str | type[Method]] = {
    "avil": "avil_fast.methods.avil:Avil",
    "single": "avil_fast.methods.single:Single",
    "single_own": "avil_fast.methods.single:SingleOwn",
    "single_all": "avil_fast.methods.on_dev:SingleAll",
    "multitask": "avil_fast.methods.multitask:Multitask",
    "multitask_all": "avil_fast.methods.on_dev:MultitaskAll",
    "multitask_ft": "avil_fast.methods.multitask:MultitaskFinetune",
    "diw": "avil_fast.methods.diw:Diw",
    "forkmerge": "avil_fast.methods.forkmerge:ForkMerge",
    "tartan": "avil_fast.methods.tartan:Tartan",
    "taps": "avil_fast.methods.taps:Taps",
    "aux_weighting": "avil_fast.methods.aux_weighting:AuxWeighting",
    "upgrad": "avil_fast.methods.gradient_aggregation:UPGrad",
    "pcgrad": "avil_fast.methods.gradient_aggregation:PCGrad",
    "cagrad": "avil_fast.methods.gradient_aggregation:CAGrad",
    "mgda": "avil_fast.methods.gradient_aggregation:MGDA",
}
"""By the name in `method: ...`: a class, or where it is, "module:Class", to be imported when a run needs it."""


def find(name: str) -> type[Method]:
    """The method of this name.

    Raises:
        KeyError: there is none.
    """
    where = METHODS[name]
    if not isinstance(where, str):
        return where
    module, _, attribute = where.partition(":")
    found: type[Method] = getattr(importlib.import_module(module), attribute)
    return found
