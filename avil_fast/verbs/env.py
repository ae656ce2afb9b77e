"""avil-fast env"""

from __future__ import annotations

from avil_fast.verbs.arguments import AsJson, show


def env(as_json: AsJson = False) -> None:
    """Tell what this machine and installation have: for bug reports, and before a long run.

    Example: avil-fast env
    """
    from avil_fast.environment import environment

    found = environment()
    if as_json:
        show(found)
        return
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:{width}}  {value}")
