"""Reference implementation of αVIL (α-Variable Importance Learning, arXiv 2405.07769).

Written for clarity, to be the ground truth in tests. One round:

1. collect  for every task i: from θ, SGD on w_i L_i gives θ_i; δ_i = θ_i - θ; θ goes back, heads stay
2. alpha    α = alpha_init; S times: α ← clip(α - alpha_lr * d/dα L_target(D_dev; θ + Σ_i α_i δ_i))
3. merge    θ ← θ + Σ_i α_i δ_i
4. weights  w_i ← w_i + η (α_i - 1)   or   w_i ← w_i * (α_i / alpha_init)^η   or unchanged

The α gradient is taken by autograd through the expression θ + Σ_i α_i δ_i itself.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Params = dict[str, Tensor]
Loss = Callable[[nn.Module, Any], Tensor]


@dataclass
class Trace:
    """What happened: n tasks in the order of `losses`, S = alpha_steps; every list is one entry a round."""

    alphas: list[list[Tensor]] = field(default_factory=list)  # [round][0..S] -> (n,); index 0 is alpha_init
    thetas: list[Params] = field(default_factory=list)  # every parameter (heads, frozen too) after the merge
    weights: list[Tensor] = field(default_factory=list)  # (n,), after the round's weight update
    dev_losses: list[list[float]] = field(default_factory=list)  # [round][0..S], the loss at alphas[round][s]
    delta_norms: list[Tensor] = field(default_factory=list)  # (n,), the L2 norm of each δ_i
    buffers: list[Params] = field(default_factory=list)  # every buffer after the round


class Wrapper(nn.Module):
    """Makes fn(model, batch) a module's forward, so that functional_call can replace model's parameters."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, fn: Loss, batch: Any) -> Tensor:
        return fn(self.model, batch)


def cast(batch: Any, dtype: torch.dtype) -> Any:
    """The batch with its floating tensors as dtype (tensors in mappings, lists, tuples)."""
    if isinstance(batch, Tensor):
        return batch.to(dtype) if batch.is_floating_point() else batch
    if isinstance(batch, Mapping):
        return {k: cast(v, dtype) for k, v in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(cast(v, dtype) for v in batch)
    return batch


def count(batch: Any) -> int | None:
    """Number of examples: the leading size of the first tensor in the batch."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.dim() else 1
    if isinstance(batch, (Mapping, list, tuple)):
        values = batch.values() if isinstance(batch, Mapping) else batch
        return next((c for c in map(count, values) if c), None)
    return None


def head_names(model: nn.Module, prefix: str | None) -> list[str]:
    """Trainable parameters under the prefix; a tied one belongs to a head only if all of its names do."""
    if not prefix:
        return []
    names: dict[int, list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    inside = {i for i, ns in names.items() if all(n.startswith(prefix) for n in ns)}
    return [n for n, p in model.named_parameters() if id(p) in inside and p.requires_grad]


def snapshot(named) -> Params:
    return {n: t.detach().clone() for n, t in named}


@torch.no_grad()
def assign(named, values: Params) -> None:
    """Copy values in place into the tensors of the same name; names without a value are left alone."""
    for n, t in named:
        if n in values:
            t.copy_(values[n])


def sgd(model, loss, batches, names, w, *, lr, momentum, moments: Params, weight_apply) -> None:
    """One SGD step per batch on the named parameters; `moments`, the momentum buffers, changes in place."""
    params = dict(model.named_parameters())
    loss_scale, step = (w, lr) if weight_apply == "loss" else (1.0, lr * w)
    for batch in batches:
        value = loss_scale * loss(model, batch)
        grads = torch.autograd.grad(value, [params[n] for n in names], allow_unused=True)
        with torch.no_grad():
            for n, g in zip(names, grads, strict=True):
                if g is not None:  # a parameter that the loss does not use takes no step; its moment waits
                    moments[n] = momentum * moments[n] + g if n in moments else g.clone()
                    params[n] -= step * moments[n]


def combine(base: Params, deltas: list[Params], alpha: Tensor, row: Callable[[str], int] | None) -> Params:
    """θ + Σ_i α_i δ_i, differentiable in α; a name absent from δ_i counts as zero there.

    α is (n,), or (layers, n) with the row of every name.
    """
    of = (lambda n: alpha) if row is None else (lambda n: alpha[row(n)])
    return {n: b + sum(a * d[n] for a, d in zip(of(n), deltas, strict=True) if n in d)
            for n, b in base.items()}  # fmt: skip


def dev_loss(model, loss, dev, base, deltas, alpha, row) -> Tensor:
    """Example-weighted mean over the dev batches of the target's loss at θ + Σ_i α_i δ_i."""
    point = {"model." + n: t for n, t in combine(base, deltas, alpha, row).items()}
    total = sum(count(b) * torch.func.functional_call(Wrapper(model), point, (loss, b)) for b in dev)
    return total / sum(count(b) for b in dev)


def update_weights(w, alpha, t, *, rule, eta, alpha_init, bounds, target_min, normalize) -> Tensor:
    """Step 4, t is the target's index: rule, then rescale to mean 1, clip to bounds, floor for the target."""
    if rule == "off":
        return w.clone()
    w = w + eta * (alpha - 1) if rule == "additive" else w * (alpha / alpha_init) ** eta
    if normalize:
        w = w / w.mean()
    if bounds is not None:
        w = w.clamp(*bounds)
    if target_min is not None:
        w[t] = w[t].clamp(min=target_min)
    return w


def run_reference(
    model: nn.Module, losses: dict[str, Loss], train: list[dict[str, list[Any]]], dev: list[Any], target: str,
    heads: dict[str, str | None], *, rounds: int, lr: float, momentum: float = 0.0, moments: str = "reset",
    alpha_lr: float, alpha_steps: int, alpha_init: float, alpha_bounds: tuple[float, float] | None = None,
    weight_rule: str = "additive", weight_lr: float = 1.0, weight_apply: str = "loss",
    weight_bounds: tuple[float, float] | None = None, target_min: float | None = None,
    normalize: bool = False, target_head: str = "trained", layers: list[str] | None = None,
    row_of: Callable[[str, list[str]], int] | None = None, dtype: torch.dtype = torch.float64,
) -> Trace:  # fmt: skip
    """Run αVIL on a copy of `model`; `train[r][task]` is the list of batches of that task in round r.

    With `layers` α is (layers, n), and `row_of` tells the layer of a name; weights follow its mean over elements.
    """
    assert moments in ("reset", "per_task")
    assert weight_rule in ("additive", "multiplicative", "off")
    assert weight_apply in ("loss", "lr")
    assert target_head in ("trained", "scaled")
    model = copy.deepcopy(model).to(dtype)
    train, dev, tasks = cast(train, dtype), cast(dev, dtype), list(losses)
    t = tasks.index(target)
    head = {task: head_names(model, heads.get(task)) for task in tasks}
    trainable = [n for n, p in model.named_parameters() if p.requires_grad]
    theta = [n for n in trainable if not any(n in names for names in head.values())]
    combined = theta + (head[target] if target_head == "scaled" else [])  # what α acts on
    if any(set(head[task]) & set(combined) for task in tasks if task != target):
        raise ValueError("a scaled target head cannot be shared with another task")
    row = None if layers is None else lambda name: row_of(name, layers)
    numel = {n: p.numel() for n, p in model.named_parameters()}
    trace, kept_moments = Trace(), {task: {} for task in tasks}
    w = torch.ones(len(tasks), dtype=dtype)
    for r in range(rounds):
        # 1. Collect.
        model.train()
        base = snapshot((n, p) for n, p in model.named_parameters() if n in combined)
        buffers, ends, deltas = snapshot(model.named_buffers()), [], []
        for i, task in enumerate(tasks):
            assign(model.named_buffers(), buffers)
            state = kept_moments[task] if moments == "per_task" else {}
            sgd(model, losses[task], train[r][task], theta + head[task], w[i].item(),
                lr=lr, momentum=momentum, moments=state, weight_apply=weight_apply)  # fmt: skip
            after = snapshot(model.named_parameters())
            deltas.append({n: after[n] - base[n] for n in (combined if task == target else theta)})
            ends.append(snapshot(model.named_buffers()))
            assign(model.named_parameters(), base)  # θ goes back; a head outside `combined` stays trained
        mean = {n: torch.stack([e[n] for e in ends]).mean(0) if b.is_floating_point() else ends[t][n]
                for n, b in buffers.items()}  # fmt: skip
        assign(model.named_buffers(), mean)

        # 2. Alpha.
        model.eval()
        shape = (len(tasks),) if layers is None else (len(layers), len(tasks))
        alpha = torch.full(shape, alpha_init, dtype=dtype)
        alphas, values = [alpha], []
        for _ in range(alpha_steps):
            alpha = alpha.clone().requires_grad_()
            value = dev_loss(model, losses[target], dev, base, deltas, alpha, row)
            (grad,) = torch.autograd.grad(value, alpha, allow_unused=True, materialize_grads=True)
            alpha = alpha.detach() - alpha_lr * grad
            alpha = alpha if alpha_bounds is None else alpha.clamp(*alpha_bounds)
            alphas.append(alpha)
            values.append(value.item())

        # 3. Merge and 4. weights.
        with torch.no_grad():
            values.append(dev_loss(model, losses[target], dev, base, deltas, alpha, row).item())
            assign(model.named_parameters(), combine(base, deltas, alpha, row))
        if row is not None:
            alpha = sum(numel[n] * alpha[row(n)] for n in theta) / sum(numel[n] for n in theta)
        w = update_weights(w, alpha, t, rule=weight_rule, eta=weight_lr, alpha_init=alpha_init,
                           bounds=weight_bounds, target_min=target_min, normalize=normalize)  # fmt: skip
        norms = [torch.stack([v.norm() for v in d.values()]).norm() if d else w.new_zeros(()) for d in deltas]
        trace.alphas.append(alphas)
        trace.thetas.append(snapshot(model.named_parameters()))
        trace.weights.append(w.clone())
        trace.dev_losses.append(values)
        trace.delta_norms.append(torch.stack(norms))
        trace.buffers.append(snapshot(model.named_buffers()))
    return trace
