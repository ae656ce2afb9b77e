"""Planning for a large model on many ranks: `python -m benchmarks.ledger`."""

from __future__ import annotations

import time

import numpy as np

from avil_fast.deltas.ledger import copy_plan
from tests.deltas.layouts import flat, sharded

PARAMETERS, RANKS, OTHER_RANKS = 10_000, 512, 384


def main() -> None:
    sizes = np.random.default_rng(0).integers(1, 5_000_000, PARAMETERS)
    parameters = {f"p{i}": int(n) for i, n in enumerate(sizes)}
    source, destination = sharded(parameters, RANKS), flat(parameters, OTHER_RANKS, alignment=2)
    start = time.perf_counter()
    layout = source.layout()
    laid_out = time.perf_counter()
    plan = copy_plan(layout, destination.layout())
    planned = time.perf_counter()
    assert plan[:, 6].sum() == sizes.sum()
    print(f"{PARAMETERS} parameters, {sizes.sum() / 1e9:.1f} billion elements")
    print(f"layout on {RANKS} ranks, {len(source.rows)} slices: {laid_out - start:.2f} s")
    print(f"plan to {OTHER_RANKS} ranks of another layout, {len(plan)} moves: {planned - laid_out:.2f} s")


if __name__ == "__main__":
    main()
