"""Gradient descent on coefficients, by the target's dev loss: tables [groups, n] of the engine's groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from avil_fast.config import AlphaConfig
from avil_fast.engine.results import Alpha, Table, over_groups
from avil_fast.errors import Diverged
from avil_fast.methods.base import Method


def descend(first: Table, config: AlphaConfig, gradient: Callable[[Table, int], Table]) -> list[Table]:
    """The coefficients at the start and after each of `alpha.steps` steps, projected on `alpha.bounds`.

    Args:
        gradient: at a table, before the step of this number, from 0; empty where there is none: such a table is
            rejected, and the last before it is the end.
    """
    table = torch.tensor(first, dtype=torch.float64, requires_grad=True)
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD([table], config.lr, momentum=config.momentum)
    else:
        optimizer = torch.optim.Adam([table], config.lr)
    path = [table.tolist()]
    for step in range(config.steps):
        found = gradient(path[-1], step)
        if not found:
            path.pop()
            break
        table.grad = torch.tensor(found, dtype=torch.float64)
        optimizer.step()
        if config.bounds is not None:
            table.detach().clamp_(*config.bounds)
        path.append(table.tolist())
    return path


def dev_gradients(method: Method, alpha: Table, step: int, round_: int) -> Table:
    """∂L/∂α before step number `step`: taken now, or known already, where a round goes on after a resume.

    Empty if it or the loss is not finite.

    Raises:
        Diverged: so it is before the first step, of which nothing is left to go back to.
    """
    known = method.so_far.gradient
    if step == len(known):
        gradients, told = dev_gradient_at(method, alpha)
        if step == 0 and not gradients:
            target = method.engine.tasks[method.engine.target]
            raise Diverged(
                f"target {target.name!r}: its {told} at step 1 of the α phase of round {round_}; lower "
                f"optimizer.lr or alpha.lr, set alpha.bounds, or check the dev data"
            )
        known.append(gradients)
        method.hooks.point()
    return known[step]


def dev_gradient_at(method: Method, alpha: Alpha) -> tuple[Table, str]:
    """∂L/∂α of the target's dev loss at θ + Σ α_i δ_i, and both in words; no gradient if it or the loss is not
    finite."""
    engine = method.engine
    engine.apply(alpha)
    gradients, loss = engine.target_gradient(method.data.dev_draw(engine.target))
    gradient = over_groups(gradients)
    finite = all(map(math.isfinite, (loss, *gradient)))
    return gradients if finite else [], f"dev loss is {loss} with α gradient {gradient}"


def mean_over_groups(table: Table, groups: Mapping[str, int]) -> list[float]:
    """The mean of a table [groups, n] over groups, [n], each group counted by its number of elements."""
    total = sum(groups.values())
    shares = [elements / total for elements in groups.values()]
    return over_groups([[share * a for a in own] for share, own in zip(shares, table, strict=True)])
